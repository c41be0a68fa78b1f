use super::*;
use proptest::prelude::*;

//------------ Table -----------------------------------------------------------------------------------------------

#[test]
fn an_answer_that_comes_a_little_early_does_not_cost_another_heartbeat() {
    let start = epoch();
    let mut hearing = Hearing::new(PATIENCE, start);
    let heartbeat = PATIENCE.heartbeat_interval;
    let beats = (PATIENCE.failback_interval.as_secs() / heartbeat.as_secs()) as u32;
    let first = start + Duration::from_millis(30);
    assert_eq!(hearing.handle_heartbeat(first), Sign::Heard);
    for beat in 1..beats {
        assert_eq!(hearing.handle_heartbeat(start + heartbeat * beat), Sign::Heard, "beat {beat}");
    }
    // The first answer was slow by 30 ms, this one is not.
    assert_eq!(hearing.handle_heartbeat(start + heartbeat * beats), Sign::Steady);
}

#[test]
fn every_state_meets_every_occurrence() {
    let mut printed = format!("{:<9}", "state");
    for occurrence in Occurrence::ALL {
        printed += &format!("{:<17}", format!("{occurrence:?}"));
    }
    for state in State::ALL {
        printed = format!("{}\n{:<9}", printed.trim_end(), format!("{state:?}"));
        for occurrence in Occurrence::ALL {
            let (to, action) = next(state, occurrence);
            let action = action.map(|action| format!(" {action:?}!")).unwrap_or_default();
            printed += &format!("{:<17}", format!("{to:?}{action}"));
        }
    }
    assert_eq!(
        printed.trim_end(),
        "\
state    Due              Opened           Failed           Answered         Overdue
Resting  Opening Open!    Waiting Probe!   Resting          Resting          Resting
Opening  Opening          Waiting Probe!   Resting          Opening          Opening Reopen!
Idle     Waiting Probe!   Idle             Resting          Idle             Idle
Waiting  Waiting Probe!   Waiting          Resting          Idle             Opening Reopen!"
    );
}

//------------ One connection --------------------------------------------------------------------------------------

/// Acts on deadlines until `end`; says what was asked, with milliseconds since `start`.
fn run(heartbeat: &mut Heartbeat, start: Instant, end: Duration, answers: bool) -> Vec<String> {
    let mut log = Vec::new();
    let mut now = start;
    loop {
        while let Some(action) = heartbeat.poll_action() {
            log.push(format!("{} {action:?}", (now - start).as_millis()));
            match action {
                Action::Probe if answers => heartbeat.handle_answer(now),
                Action::Probe | Action::Open | Action::Reopen => {}
            }
        }
        now = heartbeat.poll_timeout();
        if now > start + end {
            return log;
        }
        heartbeat.handle_timeout(now);
    }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn an_answered_heartbeat_beats_once_an_interval() {
    let start = epoch();
    let mut heartbeat = Heartbeat::new(seconds(1), start);
    assert_eq!(heartbeat.poll_action(), Some(Action::Open));
    heartbeat.handle_opened(start);
    assert_eq!(
        run(&mut heartbeat, start, seconds(3), true),
        ["0 Probe", "1000 Probe", "2000 Probe", "3000 Probe"]
    );
}

#[test]
fn an_unanswered_probe_gets_a_fresh_connection_after_two_intervals() {
    let start = epoch();
    let mut heartbeat = Heartbeat::new(seconds(5), start);
    assert_eq!(heartbeat.poll_action(), Some(Action::Open));
    heartbeat.handle_opened(start);
    // From then on every opening hangs too: a cut cable swallows the SYN.
    let log = run(&mut heartbeat, start, seconds(25), false);
    assert_eq!(
        log,
        ["0 Probe", "5000 Probe", "10000 Reopen", "15000 Reopen", "20000 Reopen", "25000 Reopen"]
    );
}

#[test]
fn a_fast_heartbeat_still_gives_a_connection_two_seconds() {
    let start = epoch();
    let mut heartbeat = Heartbeat::new(Duration::from_millis(100), start);
    assert_eq!(heartbeat.poll_action(), Some(Action::Open));
    heartbeat.handle_opened(start);
    let log = run(&mut heartbeat, start, seconds(5), false);
    let reopened: Vec<_> = log.iter().filter(|line| line.ends_with("Reopen")).collect();
    assert_eq!(reopened, ["2000 Reopen", "4000 Reopen"]);
}

#[test]
fn a_refused_connection_is_tried_again_at_each_beat_and_not_faster() {
    let start = epoch();
    let mut heartbeat = Heartbeat::new(seconds(1), start);
    let mut opened = 0;
    let mut now = start;
    while now < start + seconds(60) {
        while let Some(action) = heartbeat.poll_action() {
            assert_eq!(action, Action::Open);
            opened += 1;
            heartbeat.handle_failed(now);
        }
        now = heartbeat.poll_timeout();
        heartbeat.handle_timeout(now);
    }
    assert_eq!(opened, 60);
}

#[test]
fn a_lost_connection_takes_its_pending_probe_with_it() {
    let start = epoch();
    let mut heartbeat = Heartbeat::new(seconds(1), start);
    assert_eq!(heartbeat.poll_action(), Some(Action::Open));
    heartbeat.handle_opened(start);
    heartbeat.handle_failed(start);
    assert_eq!(heartbeat.poll_action(), None);
    assert_eq!(heartbeat.state(), State::Resting);
}

#[test]
fn a_world_that_slept_is_not_flooded_with_beats() {
    let start = epoch();
    let mut heartbeat = Heartbeat::new(seconds(1), start);
    assert_eq!(heartbeat.poll_action(), Some(Action::Open));
    heartbeat.handle_opened(start);
    assert_eq!(heartbeat.poll_action(), Some(Action::Probe));
    heartbeat.handle_answer(start);
    let woken = start + seconds(3600);
    heartbeat.handle_timeout(woken);
    assert_eq!(heartbeat.poll_action(), Some(Action::Probe));
    assert_eq!(heartbeat.poll_timeout(), woken + seconds(1));
}

proptest! {
    #[test]
    fn whatever_happens_it_never_rests_for_longer_than_its_patience(
        interval_ms in 10u64..10_000, story in prop::collection::vec((0u8..4, 0u64..5_000), 1..200),
    ) {
        let interval = Duration::from_millis(interval_ms);
        let mut now = epoch();
        let mut heartbeat = Heartbeat::new(interval, now);
        for (what, later) in story {
            now += Duration::from_millis(later);
            match what {
                0 => heartbeat.handle_opened(now),
                1 => heartbeat.handle_failed(now),
                2 => heartbeat.handle_answer(now),
                _ => heartbeat.handle_timeout(now),
            }
            while heartbeat.poll_action().is_some() {}
            prop_assert!(heartbeat.poll_timeout() <= now + interval.max(seconds(2)));
            let patient = matches!(heartbeat.state(), State::Opening | State::Waiting);
            prop_assert_eq!(heartbeat.overdue.is_some(), patient);
        }
    }
}

//------------ Hearing ---------------------------------------------------------------------------------------------

const PATIENCE: Patience = Patience {
    heartbeat_interval: Duration::from_secs(10),
    failure_detection_interval: Duration::from_secs(120),
    failback_interval: Duration::from_secs(240),
};

#[test]
fn silence_is_late_after_two_intervals_and_lost_after_detection() {
    let start = epoch();
    let mut hearing = Hearing::new(PATIENCE, start);
    assert_eq!(hearing.handle_heartbeat(start), Sign::Heard);
    let sign = |at| hearing.sign(start + seconds(at));
    assert_eq!(
        [sign(0), sign(19), sign(20), sign(119), sign(120)],
        [Sign::Heard, Sign::Heard, Sign::Late, Sign::Late, Sign::Lost]
    );
    assert_eq!(hearing.poll_timeout(), Some(start + seconds(20)));
    assert_eq!(hearing.handle_timeout(start + seconds(20)), Sign::Late);
    assert_eq!(hearing.poll_timeout(), Some(start + seconds(120)));
    assert_eq!(hearing.handle_timeout(start + seconds(120)), Sign::Lost);
    assert_eq!(hearing.poll_timeout(), None);
}

#[test]
fn steady_is_said_by_a_heartbeat_and_never_by_the_clock() {
    let start = epoch();
    let mut hearing = Hearing::new(PATIENCE, start);
    for at in (0..=230).step_by(10) {
        assert_eq!(hearing.handle_heartbeat(start + seconds(at)), Sign::Heard, "at {at} s");
    }
    assert_eq!(hearing.sign(start + seconds(245)), Sign::Heard);
    assert_eq!(hearing.handle_heartbeat(start + seconds(245)), Sign::Steady);
}

#[test]
fn a_gap_starts_the_count_of_steadiness_anew() {
    let start = epoch();
    let mut hearing = Hearing::new(PATIENCE, start);
    for at in (0..=230).step_by(10) {
        let _ = hearing.handle_heartbeat(start + seconds(at));
    }
    assert_eq!(hearing.handle_heartbeat(start + seconds(250)), Sign::Heard);
    assert_eq!(hearing.steady_for(start + seconds(250)), Duration::ZERO);
}

#[test]
fn what_was_never_heard_is_silent_since_we_began_to_listen() {
    let start = epoch();
    let hearing = Hearing::new(PATIENCE, start);
    assert_eq!(hearing.last_heard(), None);
    assert_eq!(hearing.sign(start + seconds(119)), Sign::Late);
    assert_eq!(hearing.sign(start + seconds(120)), Sign::Lost);
    assert_eq!(hearing.steady_for(start + seconds(5)), Duration::ZERO);
}

/// Some moment to count from.
#[expect(
    clippy::disallowed_methods,
    reason = "virtual time has to begin somewhere; nothing depends on where"
)]
fn epoch() -> Instant {
    Instant::now()
}
