//! The native module of the aktis Python package.
