//! The aktis command and the composition of its processes, laptop mode included.
