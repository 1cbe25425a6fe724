translimit recipes diff megatron translimit
