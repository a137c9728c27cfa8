//! What happens between fork and exec, and in the guardian, which is a fork that never execs.
//!
//! All of this runs in a copy of a process with many threads, and only the current thread was
//! copied: threads that do not exist may hold locks for ever. So nothing here allocates, locks,
//! panics or unwinds; it makes system calls on plain numbers, and calls that POSIX lists as
//! async-signal-safe.
#![expect(
    unsafe_code,
    reason = "fork, wait and signals have no safe interface that is usable after a fork"
)]

use std::io;
use std::mem;
use std::os::fd::RawFd;
use std::ptr;

use libc::{c_int, pid_t};

use crate::control::{KILL_ALL, ORDER_BYTES, SIGNAL_GROUP, SIGNAL_PROGRAM};

/// In the guardian: where orders come from, and where the program's end is reported.
const ORDERS: RawFd = 0;
const REPORTS: RawFd = 1;

/// What the guardian and the program need to know; made before the fork.
pub(crate) struct Setup {
    /// The guardian's end of the control pipe, and the end that only the owner may hold.
    pub(crate) orders: RawFd,
    pub(crate) control: RawFd,
    /// The guardian's end of the status pipe.
    pub(crate) reports: RawFd,
    /// Whether the program leads a new process group.
    pub(crate) own_group: bool,
    /// How many files the program may have open, where it is not as many as this process.
    pub(crate) open_files: Option<u64>,
    /// Descriptors that the program inherits.
    pub(crate) kept: Vec<RawFd>,
}

/// Turns the process that called this into a guardian and returns in a child of it, which goes on
/// to exec.
///
/// # Safety
///
/// To be called between fork and exec only, with the numbers of open descriptors, none of them 0, 1
/// or 2.
pub(crate) unsafe fn split(setup: &Setup) -> io::Result<()> {
    // SAFETY: async-signal-safe calls on local, initialised values; `zeroed` is a valid value of
    // these C structs.
    unsafe {
        // The guardian must not die of Ctrl-C, so all signals wait from here on; the program gets
        // its mask back.
        let mut all: libc::sigset_t = mem::zeroed();
        let mut before: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &all, &mut before);
        // A handler, so that SIGCHLD interrupts the guardian's wait; exec resets it for the
        // program. It also undoes an inherited "ignore", with which the program's status
        // would be lost.
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = on_child as extern "C" fn(c_int) as libc::sighandler_t;
        libc::sigaction(libc::SIGCHLD, &action, ptr::null_mut());
        #[cfg(target_os = "linux")]
        if libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }

        let guardian = libc::getpid();
        match libc::fork() {
            -1 => Err(io::Error::last_os_error()),
            0 => become_program(setup, guardian, &before),
            program => guard(setup, program),
        }
    }
}

extern "C" fn on_child(_signal: c_int) {}

/// The program's side, just before exec.
///
/// # Safety
///
/// As for [`split`].
unsafe fn become_program(setup: &Setup, guardian: pid_t, mask: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: async-signal-safe calls on plain numbers and on references that are valid here.
    unsafe {
        if setup.own_group && libc::setpgid(0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        // If someone kills the guardian, at least the program dies with it. The guardian has one
        // thread, so this is not about the death of a thread. It may have died before the
        // call, hence the check after it.
        #[cfg(target_os = "linux")]
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        if libc::getppid() != guardian {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        // Others may have opened descriptors without "close on exec", or passed such to this
        // process. Before Linux 5.11 this fails, and those are inherited.
        #[cfg(target_os = "linux")]
        close_range(3, libc::CLOSE_RANGE_CLOEXEC);
        for &fd in &setup.kept {
            let flags = libc::fcntl(fd, libc::F_GETFD);
            if flags < 0 || libc::fcntl(fd, libc::F_SETFD, flags & !libc::FD_CLOEXEC) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        if let Some(open_files) = setup.open_files {
            let mut limit: libc::rlimit = mem::zeroed();
            if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
                limit.rlim_cur = open_files;
                // A limit that stays higher is no reason not to start.
                libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
            }
        }
        // The owner reads this after the exec, so it is there by then.
        report(setup.reports, libc::getpid());
        libc::close(setup.control);
        libc::sigprocmask(libc::SIG_SETMASK, mask, ptr::null_mut());
    }
    Ok(())
}

/// The guardian's side: reaps, obeys, and ends when nothing is left.
///
/// # Safety
///
/// As for [`split`].
unsafe fn guard(setup: &Setup, program: pid_t) -> ! {
    // SAFETY: async-signal-safe calls on plain numbers; the two descriptors are open, and above 2.
    unsafe {
        if setup.own_group {
            // The program does so too: the group exists before an order is read, whichever call
            // comes first.
            libc::setpgid(program, program);
        }
        libc::setsid();
        libc::chdir(c"/".as_ptr());
        #[cfg(target_os = "linux")]
        libc::prctl(libc::PR_SET_NAME, c"js-guardian".as_ptr(), 0, 0, 0);
        // A suspended guardian does not notice the owner's death: it is continued then (and, in
        // vain, when the thread ends that has forked it).
        #[cfg(target_os = "linux")]
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGCONT, 0, 0, 0);
        libc::dup2(setup.orders, ORDERS);
        libc::dup2(setup.reports, REPORTS);
        close_from(2);
    }
    let mut guarded = Guarded { program, own_group: setup.own_group, running: true };
    let mut kill_rounds: u32 = 0;
    loop {
        // SAFETY: this process is the guardian; nothing else in it waits for children.
        if unsafe { guarded.reap() } == Left::Nothing {
            // SAFETY: ends this process without running anything of the process that it is a copy
            // of.
            unsafe { libc::_exit(0) };
        }
        if kill_rounds > 0 {
            // Each round kills those whose parents died in the round before.
            // SAFETY: as above.
            unsafe { guarded.kill_all() };
            kill_rounds = kill_rounds.saturating_add(1);
        }
        let pause = match kill_rounds {
            0 => None,
            1..=100 => Some(libc::timespec { tv_sec: 0, tv_nsec: 20_000_000 }),
            _ => Some(libc::timespec { tv_sec: 1, tv_nsec: 0 }),
        };
        // After the pipe's end there is nothing more to read: `listening` keeps that from waking us
        // for ever.
        let listening = kill_rounds == 0;
        // SAFETY: as above.
        let readable = unsafe { wait(listening, pause.as_ref()) };
        if listening && readable && obey(&guarded) {
            kill_rounds = 1;
        }
    }
}

/// Reads orders and carries them out; true for "kill everything", which the closed pipe means too.
fn obey(guarded: &Guarded) -> bool {
    let mut orders = [0_u8; 32 * ORDER_BYTES];
    // SAFETY: reads into a local array of that length.
    let count = unsafe { libc::read(ORDERS, orders.as_mut_ptr().cast(), orders.len()) };
    let Ok(count) = usize::try_from(count) else {
        return io::Error::last_os_error().raw_os_error() != Some(libc::EINTR);
    };
    for order in orders.chunks_exact(ORDER_BYTES).take(count / ORDER_BYTES) {
        let signal = c_int::from(order[1]);
        // SAFETY: this process is the guardian.
        match order[0] {
            SIGNAL_PROGRAM => unsafe { guarded.signal_program(signal) },
            SIGNAL_GROUP => unsafe { guarded.signal_group(signal) },
            KILL_ALL => return true,
            _ => {}
        }
    }
    count == 0
}

/// The remaining processes to guard.
#[derive(PartialEq, Eq)]
enum Left {
    Something,
    Nothing,
}

/// The program, and whether its process id is still its own: it is until it was reaped, and that
/// happens here.
struct Guarded {
    program: pid_t,
    own_group: bool,
    running: bool,
}

impl Guarded {
    /// Reaps all who ended, and reports the program's end.
    #[cfg(target_os = "linux")]
    unsafe fn reap(&mut self) -> Left {
        loop {
            let mut status = 0;
            // SAFETY: writes to a local integer.
            let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
            if pid == self.program {
                self.running = false;
                // SAFETY: the descriptor is the guardian's own.
                unsafe { report(REPORTS, status) };
            } else if pid == 0 {
                return Left::Something;
            } else if pid < 0 && io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
                return Left::Nothing;
            }
        }
    }

    /// Waits for the program's end, kills its group while the dead program still holds the group's
    /// number, reaps it.
    #[cfg(not(target_os = "linux"))]
    unsafe fn reap(&mut self) -> Left {
        let id = self.program as libc::id_t;
        // SAFETY: writes to local values; `zeroed` is a valid value of this C struct.
        unsafe {
            let mut info: libc::siginfo_t = mem::zeroed();
            let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            if libc::waitid(libc::P_PID, id, &mut info, flags) == 0 && info.si_pid != self.program {
                return Left::Something;
            }
            self.signal_group(libc::SIGKILL);
            let mut status = 0;
            libc::waitpid(self.program, &mut status, 0);
            report(REPORTS, status);
        }
        Left::Nothing
    }

    unsafe fn signal_program(&self, signal: c_int) {
        if self.running {
            // SAFETY: the program was not reaped, so the number is its own.
            unsafe { libc::kill(self.program, signal) };
        }
    }

    unsafe fn signal_group(&self, signal: c_int) {
        if self.running && self.own_group {
            // SAFETY: as above; the number is its group's, too.
            unsafe { libc::kill(-self.program, signal) };
        } else {
            // SAFETY: as above.
            unsafe { self.signal_program(signal) };
            #[cfg(target_os = "linux")]
            if !self.running {
                // SAFETY: as above.
                unsafe { signal_children(signal) };
            }
        }
    }

    unsafe fn kill_all(&self) {
        // SAFETY: only processes are signalled that this one has not reaped.
        unsafe {
            self.signal_group(libc::SIGKILL);
            #[cfg(target_os = "linux")]
            signal_children(libc::SIGKILL);
        }
    }
}

/// Signals every direct child: the program, and descendants whose own parents are dead.
///
/// # Safety
///
/// In the guardian only: nobody else reaps these, so their numbers are theirs.
#[cfg(target_os = "linux")]
unsafe fn signal_children(signal: c_int) {
    // SAFETY: reads into a local array; the path is a literal.
    unsafe {
        let list =
            libc::open(c"/proc/thread-self/children".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if list < 0 {
            return;
        }
        let mut pid: pid_t = 0;
        let mut text = [0_u8; 1024];
        while let Ok(count @ 1..) =
            usize::try_from(libc::read(list, text.as_mut_ptr().cast(), text.len()))
        {
            for &byte in text.iter().take(count) {
                if byte.is_ascii_digit() {
                    pid = pid.wrapping_mul(10).wrapping_add(pid_t::from(byte - b'0'));
                } else {
                    if pid > 1 {
                        libc::kill(pid, signal);
                    }
                    pid = 0;
                }
            }
        }
        libc::close(list);
    }
}

/// Waits for an order (true), the end of a child, or the end of the pause.
///
/// # Safety
///
/// In the guardian only, where all signals are blocked.
unsafe fn wait(listening: bool, pause: Option<&libc::timespec>) -> bool {
    // SAFETY: local, initialised values; `ORDERS` is below FD_SETSIZE.
    unsafe {
        let mut orders: libc::fd_set = mem::zeroed();
        libc::FD_ZERO(&mut orders);
        if listening {
            libc::FD_SET(ORDERS, &mut orders);
        }
        let mut mask: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&mut mask);
        libc::sigdelset(&mut mask, libc::SIGCHLD);
        let pause = pause.map_or(ptr::null(), ptr::from_ref);
        libc::pselect(ORDERS + 1, &mut orders, ptr::null_mut(), ptr::null_mut(), pause, &mask) > 0
    }
}

/// Writes one number to the owner, which may have ended.
///
/// # Safety
///
/// Between fork and exec, or in the guardian.
unsafe fn report(fd: RawFd, number: c_int) {
    let bytes = number.to_ne_bytes();
    // SAFETY: writes a local array of that length.
    while unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) } < 0
        && io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
    {}
}

/// Closes every descriptor from `first` on.
///
/// # Safety
///
/// In the guardian only: everybody else's descriptors are closed under them.
unsafe fn close_from(first: RawFd) {
    // SAFETY: closes numbers; nothing in the guardian uses one of them.
    unsafe {
        #[cfg(target_os = "linux")]
        if close_range(first, 0) {
            return;
        }
        let mut limit: libc::rlimit = mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        for fd in first..RawFd::try_from(limit.rlim_cur).unwrap_or(65536).clamp(256, 65536) {
            libc::close(fd);
        }
    }
}

/// Closes every descriptor from `first` on, or what the flags say; false if this system cannot.
///
/// # Safety
///
/// As for [`close_from`], unless the flags say "on exec".
#[cfg(target_os = "linux")]
unsafe fn close_range(first: RawFd, flags: libc::c_uint) -> bool {
    let (first, last, flags) =
        (libc::c_long::from(first), libc::c_long::from(c_int::MAX), libc::c_long::from(flags));
    // SAFETY: a system call on plain numbers; what it closes is the caller's concern.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) == 0 }
}
