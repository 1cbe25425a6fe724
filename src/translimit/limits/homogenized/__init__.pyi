from .activation_kernel import activation_kernel as activation_kernel
from .pre_norm_stack import GramChain as GramChain
from .pre_norm_stack import GramRecursion as GramRecursion
from .pre_norm_stack import PreNormRecursion as PreNormRecursion
from .pre_norm_stack import PreNormSolution as PreNormSolution
from .pre_norm_stack import high_temperature_step as high_temperature_step
