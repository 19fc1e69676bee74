//! What several threads do at once, in every order that chance draws: see `checks/`. As
//! `RUSTFLAGS='--cfg fuzzing' cargo test --release` from here, or `scripts/suites schedules`.
//!
//! `$REVFS_SCHEDULES` says how many orders of each (20,000), `$REVFS_DICE` draws others. Who fails prints its order as one word;
//! `$REVFS_SCHEDULE` replays it. (Of `mount`, whose calls ask the disk and the clock, not always.)

#[cfg(test)]
mod tests {
    use revfs::fuzz::schedules::{self, Spawn};
    use shuttle::scheduler::{RandomScheduler, ReplayScheduler};
    use shuttle::{Config, MaxSteps, Runner};

    fn spawn(run: Box<dyn FnOnce() + Send>) -> Box<dyn FnOnce()> {
        let thread = shuttle::thread::spawn(run);
        Box::new(|| thread.join().expect("it does not panic"))
    }

    fn draw(check: impl Fn(Spawn) + Send + Sync + 'static) {
        let number = |name: &str| std::env::var(name).ok().map(|given| given.parse::<u64>().expect("a number"));
        let (schedules, dice) = (number("REVFS_SCHEDULES").unwrap_or(20_000), number("REVFS_DICE").unwrap_or(1));
        let mut config = Config::new();
        config.stack_size = 1 << 20;
        // Who waits for good looks for ever.
        config.max_steps = MaxSteps::FailAfter(200_000);
        let run = move || {
            parking_lot::set_scheduled(true);
            check(&spawn);
            parking_lot::set_scheduled(false);
        };
        let done = match std::env::var("REVFS_SCHEDULE") {
            Ok(schedule) => Runner::new(ReplayScheduler::new_from_encoded(&schedule), config).run(run),
            Err(_) => Runner::new(RandomScheduler::new_from_seed(dice, schedules as usize), config).run(run),
        };
        println!("{done} schedules");
    }

    #[test]
    fn locks() {
        draw(schedules::locks);
    }

    #[test]
    fn budget() {
        draw(schedules::budget);
    }

    #[test]
    fn idle() {
        draw(schedules::idle);
    }

    #[test]
    fn feed() {
        draw(schedules::feed);
    }

    #[test]
    fn mount() {
        draw(schedules::mount);
    }
}
