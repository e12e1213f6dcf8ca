//! A forked process that is killed, at the latest when the test ends.
#![allow(unsafe_code, reason = "forks and kills a child")]

pub(crate) struct Child {
    pid: i32,
}

impl Child {
    /// Forks. The child runs `body`, which never returns, does not allocate if it can help it and
    /// takes no locks: the other threads of the test are not there.
    pub(crate) fn fork(body: impl FnOnce() -> std::convert::Infallible) -> Self {
        // SAFETY: the child keeps to what is said above.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork");
        if pid == 0 {
            // SAFETY: asks for a signal; without it the child might outlive a killed test.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            body();
        }
        Self { pid }
    }

    #[allow(dead_code, reason = "not every test needs it")]
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Kills the child and waits until it is dead.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: the child is not reaped yet, so the id is still its.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        let mut status = 0;
        // SAFETY: `status` is valid for writing.
        unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
    }
}
