//! The handling of memory that tensors give back to the allocator.

/// Keeps freed memory for the next tensors, up to a gigabyte. The allocator of glibc gives large blocks back
/// to the system at once, and a tenth of a forward pass on the CPU goes into getting them anew, page by page.
///
/// It is for `main`, since it changes the allocator of the whole process. With other allocators it does
/// nothing.
#[allow(unsafe_code)]
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LIMIT: libc::c_int = 1 << 30;
        // Before version 2.35 a limit above this one is refused, and the last that was not stays.
        const OLD_LIMIT: libc::c_int = 32 << 20;
        // SAFETY: `mallopt` may be called at any time from any thread, and refuses what it does not know.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, OLD_LIMIT);
            libc::mallopt(libc::M_MMAP_THRESHOLD, LIMIT);
            libc::mallopt(libc::M_TRIM_THRESHOLD, LIMIT);
        }
    }
}
