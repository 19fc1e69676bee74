//! Sections in which a thread must not wait for a disk.

#[cfg(debug_assertions)]
thread_local! {
    static SECTIONS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// While it lives, its thread holds a lock that every call needs. In release builds it is nothing.
#[derive(Debug)]
pub struct NoIo(std::marker::PhantomData<*const ()>);

impl NoIo {
    /// Begins such a section of the calling thread.
    pub fn begin() -> NoIo {
        #[cfg(debug_assertions)]
        SECTIONS.set(SECTIONS.get() + 1);
        NoIo(std::marker::PhantomData)
    }

    /// Asserts, in debug builds, that the calling thread is in none.
    pub fn assert_none() {
        #[cfg(debug_assertions)]
        assert!(SECTIONS.get() == 0, "a disk is waited for under a lock that every call needs");
    }
}

impl Drop for NoIo {
    fn drop(&mut self) {
        #[cfg(debug_assertions)]
        SECTIONS.set(SECTIONS.get() - 1);
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "under a lock")]
    fn a_wait_in_such_a_section_is_found() {
        let _section = NoIo::begin();
        NoIo::assert_none();
    }

    #[test]
    fn sections_end_and_are_those_of_one_thread() {
        drop((NoIo::begin(), NoIo::begin()));
        NoIo::assert_none();
        let _section = NoIo::begin();
        std::thread::spawn(NoIo::assert_none).join().unwrap();
    }
}
