"""The first thing that importing ``aktis.data`` does: the zygote imports what stages need while this process imports its own."""

from aktis._process import shared_modules

shared_modules.foresee()
