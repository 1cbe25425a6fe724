from .base import AbstractExecutor as AbstractExecutor
from .base import Job as Job
from .base import JobResult as JobResult
from .pool import ProcessPool as ProcessPool
from .serial import Serial as Serial
from .threads import limit_threads as limit_threads
from .threads import thread_limits as thread_limits
