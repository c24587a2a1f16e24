"""From a traced step to a plan, and from its calls to LLVM's assembly, C and CUDA. No arrays here."""
