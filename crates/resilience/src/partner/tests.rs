use super::*;
use crate::profile::{Profile, Timers};
use crate::topology::examples::FE2;
use proptest::prelude::*;

//------------ Table -----------------------------------------------------------------------------------------------

#[test]
fn every_state_meets_every_sign() {
    let mut printed = format!("{:<12}", "state");
    for sign in Sign::ALL {
        printed += &format!("{:<12}", format!("{sign:?}"));
    }
    for state in State::ALL {
        printed = format!("{}\n{state:<12}", printed.trim_end());
        for sign in Sign::ALL {
            printed += &format!("{:<12}", next(state, sign));
        }
    }
    assert_eq!(
        printed.trim_end(),
        "\
state       Heard       Steady      Late        Lost
Up          Up          Up          Suspect     FailedOver
Suspect     Up          Up          Suspect     FailedOver
FailedOver  FailingBack Up          FailedOver  FailedOver
FailingBack FailingBack Up          FailingBack FailedOver"
    );
}

//------------ Stories ---------------------------------------------------------------------------------------------

/// A partner under virtual time; says what happened as `seconds state`.
struct Watch {
    start: Instant,
    now: Instant,
    partner: Partner,
    log: Vec<String>,
}

impl Watch {
    /// Article intervals: heartbeat 5 s, detection 30 s, failback 40 s.
    fn new() -> Watch {
        Watch::with(&Timers::of(Profile::Lync2010), true)
    }

    fn with(timers: &Timers, automatic: bool) -> Watch {
        let start = epoch();
        let partner = Partner::new(FE2.into(), Patience::from(timers), automatic, start);
        Watch { start, now: start, partner, log: Vec::new() }
    }

    fn at(&self) -> Duration {
        self.now - self.start
    }

    fn drain(&mut self) {
        while let Some(event) = self.partner.poll_event() {
            self.log.push(format!("{} {event}", Seconds(self.at())));
        }
    }

    /// Lets time pass until `seconds` after the start, acting on each deadline.
    fn silent_until(&mut self, seconds: u64) {
        let end = self.start + Duration::from_secs(seconds);
        while let Some(at) = self.partner.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.partner.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn heartbeat(&mut self) {
        self.partner.handle_heartbeat(self.now);
        self.drain();
    }

    /// A heartbeat every 5 s, from now to `seconds` after the start.
    fn heard_until(&mut self, seconds: u64) {
        self.heartbeat();
        while self.at() + Duration::from_secs(5) <= Duration::from_secs(seconds) {
            let next = self.at().as_secs() + 5;
            self.silent_until(next);
            self.heartbeat();
        }
    }

    fn state(&self) -> State {
        self.partner.state()
    }
}

#[test]
fn dies_at_100_s_and_returns_at_600_s() {
    let mut watch = Watch::new();
    watch.heard_until(100);
    watch.silent_until(600);
    watch.heard_until(700);
    assert_eq!(
        watch.log,
        [
            "110 s partner fe2.example.test: Up → Suspect (silent 10 s)",
            "130 s partner fe2.example.test: Suspect → FailedOver (silent 30 s)",
            "600 s partner fe2.example.test: FailedOver → FailingBack (heard after 500 s)",
            "640 s partner fe2.example.test: FailingBack → Up (steady 40 s)",
        ]
    );
}

#[test]
fn one_lost_heartbeat_changes_nothing_for_users() {
    let mut watch = Watch::new();
    watch.heard_until(100);
    watch.silent_until(110);
    watch.heartbeat();
    watch.heard_until(200);
    assert!(watch.log.iter().all(|line| !line.contains("FailedOver")), "{:?}", watch.log);
    assert_eq!(watch.state(), State::Up);
}

#[test]
fn an_outage_shorter_than_the_interval_moves_nobody() {
    let mut watch = Watch::new();
    watch.heard_until(100);
    watch.silent_until(129);
    watch.heartbeat();
    assert_eq!(
        watch.log,
        [
            "110 s partner fe2.example.test: Up → Suspect (silent 10 s)",
            "129 s partner fe2.example.test: Suspect → Up (heard after 29 s)",
        ]
    );
}

#[test]
fn a_flapping_partner_is_not_given_its_users_back() {
    let mut watch = Watch::new();
    watch.silent_until(30);
    assert_eq!(watch.state(), State::FailedOver);
    for minute in 1..60 {
        watch.silent_until(minute * 60);
        watch.heard_until(minute * 60 + 35);
        assert!(watch.partner.speaks_for_users(), "at {minute} min: {:?}", watch.log);
    }
}

#[test]
fn a_late_heartbeat_while_failing_back_restarts_the_wait() {
    let mut watch = Watch::new();
    watch.silent_until(100);
    watch.heard_until(135);
    watch.silent_until(147);
    watch.heard_until(182);
    assert_eq!(watch.state(), State::FailingBack);
    assert_eq!(watch.partner.failback_in(watch.now), Some(Duration::from_secs(5)));
    watch.heard_until(187);
    assert_eq!(
        &watch.log[2..],
        [
            "100 s partner fe2.example.test: FailedOver → FailingBack (heard after 100 s)",
            "147 s partner fe2.example.test: failback wait starts again (silent 12 s after 35 s)",
            "187 s partner fe2.example.test: FailingBack → Up (steady 40 s)",
        ]
    );
}

#[test]
fn a_partner_lost_while_failing_back_is_failed_over_at_once_and_nobody_moves() {
    let mut watch = Watch::new();
    watch.silent_until(100);
    watch.heard_until(120);
    watch.silent_until(200);
    assert_eq!(
        watch.log.last().unwrap(),
        "150 s partner fe2.example.test: FailingBack → FailedOver (silent 30 s)"
    );
}

#[test]
fn a_server_that_just_started_counts_from_its_own_start() {
    let mut watch = Watch::new();
    watch.silent_until(29);
    assert_eq!(watch.state(), State::Suspect);
    watch.silent_until(30);
    assert_eq!(watch.state(), State::FailedOver);
}

#[test]
fn our_own_absence_is_not_the_partners_silence() {
    let mut watch = Watch::new();
    watch.heard_until(100);
    // We stand still for 60 s and wake up; nothing has told us yet whether the partner lives.
    watch.now += Duration::from_secs(62);
    watch.partner.excuse(Duration::from_secs(60), watch.now);
    watch.partner.handle_timeout(watch.now);
    watch.drain();
    assert_eq!(watch.state(), State::Up, "{:?}", watch.log);
    // It does not, and the silence that we heard ourselves counts: 2 s before, 28 s after.
    watch.silent_until(189);
    assert_eq!(watch.state(), State::Suspect);
    watch.silent_until(190);
    assert_eq!(watch.state(), State::FailedOver);
}

#[test]
fn a_suspect_says_how_long_to_wait_in_whole_seconds() {
    let mut watch = Watch::new();
    watch.heartbeat();
    assert_eq!(watch.partner.retry_after(watch.now), None);
    watch.silent_until(10);
    assert_eq!(watch.partner.retry_after(watch.now), Some(Duration::from_secs(20)));
    let later = watch.now + Duration::from_millis(19_100);
    assert_eq!(watch.partner.retry_after(later), Some(Duration::from_secs(1)));
    watch.silent_until(30);
    assert_eq!(watch.partner.retry_after(watch.now), None);
}

#[test]
fn without_automatic_failover_silence_alone_never_takes_over() {
    let mut watch = Watch::with(&Timers::of(Profile::Lync2010), false);
    watch.silent_until(3600);
    assert_eq!(watch.state(), State::Suspect);
    assert_eq!(watch.partner.retry_after(watch.now), None, "nobody can say when");
    watch.partner.fail_over(watch.now);
    assert_eq!(watch.partner.fail_back(watch.now), Err(Refused::PartnerSilent));
    watch.heard_until(3620);
    watch.silent_until(3700);
    assert_eq!(watch.state(), State::FailedOver, "an operator took over, so the usual rules bring them home");
}

#[test]
fn an_operators_failover_holds_though_the_partner_is_heard() {
    let mut watch = Watch::new();
    watch.heard_until(100);
    watch.partner.fail_over(watch.now);
    watch.heard_until(1000);
    assert_eq!(watch.state(), State::FailedOver);
    assert_eq!(watch.partner.fail_back(watch.now), Ok(()));
    watch.drain();
    assert_eq!(
        watch.log,
        [
            "100 s partner fe2.example.test: Up → FailedOver (operator)",
            "1000 s partner fe2.example.test: FailedOver → Up (operator)",
        ]
    );
    assert_eq!(watch.partner.fail_back(watch.now), Err(Refused::NotFailedOver));
}

#[test]
fn failing_back_to_a_silent_partner_is_refused_but_lifts_the_order() {
    let mut watch = Watch::new();
    watch.heard_until(100);
    watch.partner.fail_over(watch.now);
    watch.silent_until(200);
    assert_eq!(watch.partner.fail_back(watch.now), Err(Refused::PartnerSilent));
    watch.heard_until(240);
    assert_eq!(watch.state(), State::Up);
}

#[test]
fn a_paused_failback_keeps_users_until_it_is_resumed() {
    let mut watch = Watch::new();
    watch.silent_until(100);
    watch.partner.pause_failback(true);
    watch.heard_until(500);
    assert_eq!(watch.state(), State::FailingBack);
    watch.partner.pause_failback(false);
    watch.heartbeat();
    assert_eq!(watch.state(), State::Up);
    assert_eq!(
        &watch.log[2..],
        [
            "100 s partner fe2.example.test: failback paused",
            "100 s partner fe2.example.test: FailedOver → FailingBack (heard after 100 s)",
            "500 s partner fe2.example.test: failback resumed",
            "500 s partner fe2.example.test: FailingBack → Up (steady 400 s)",
        ]
    );
}

#[test]
fn a_deadline_that_nobody_acted_on_is_made_up_for_by_the_next_heartbeat() {
    let mut watch = Watch::new();
    watch.heartbeat();
    watch.now += Duration::from_secs(60);
    watch.heartbeat();
    assert_eq!(
        watch.log,
        [
            "60 s partner fe2.example.test: Up → FailedOver (silent 60 s)",
            "60 s partner fe2.example.test: FailedOver → FailingBack (heard after 60 s)",
        ]
    );
}

#[test]
fn a_deadline_that_passed_while_nobody_looked_is_still_due() {
    let mut watch = Watch::new();
    watch.heartbeat();
    watch.now += Duration::from_secs(60);
    assert_eq!(watch.partner.poll_timeout(), Some(watch.start + Duration::from_secs(10)));
    watch.partner.handle_timeout(watch.now);
    assert_eq!((watch.state(), watch.partner.poll_timeout()), (State::FailedOver, None));
}

#[test]
fn new_intervals_count_from_what_was_heard_before() {
    let mut watch = Watch::new();
    watch.heard_until(100);
    watch.silent_until(108);
    watch.partner.adopt(Patience::from(&Timers::of(Profile::Rehome)), true, watch.now);
    watch.drain();
    assert_eq!(watch.log, ["108 s partner fe2.example.test: Up → FailedOver (silent 8 s)"]);
}

//------------ Promises --------------------------------------------------------------------------------------------

/// What happens to the watch, in steps of milliseconds.
#[derive(Clone, Debug)]
enum Happening {
    /// So much time passes; deadlines are acted on.
    Elapse(u64),
    /// So many heartbeats, so far apart; of each, whether it arrives.
    Heartbeats(u64, Vec<bool>),
    /// An operator pauses, or resumes.
    Pause(bool),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        3 => (0u64..20_000).prop_map(Happening::Elapse),
        6 => (500u64..1_500, prop::collection::vec(prop::bool::weighted(0.7), 1..40))
            .prop_map(|(apart, arrive)| Happening::Heartbeats(apart, arrive)),
        1 => any::<bool>().prop_map(Happening::Pause),
    ];
    prop::collection::vec(one, 1..40)
}

/// Plays `happenings` in profile `rehome` and hands each change, and what was heard before it, to `judge`.
fn play(
    happenings: &[Happening],
    mut judge: impl FnMut(&Change) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let mut watch = Watch::with(&Timers::of(Profile::Rehome), true);
    let mut heard: Vec<Instant> = Vec::new();
    for happening in happenings {
        let (apart, arrivals) = match happening {
            Happening::Elapse(ms) => (*ms, &[false][..]),
            Happening::Heartbeats(apart, arrivals) => (*apart, &arrivals[..]),
            Happening::Pause(paused) => {
                watch.partner.pause_failback(*paused);
                continue;
            }
        };
        for arrives in arrivals {
            let end = watch.now + Duration::from_millis(apart);
            while let Some(at) = watch.partner.poll_timeout().filter(|at| *at <= end) {
                watch.now = at;
                watch.partner.handle_timeout(at);
                judge_all(&mut watch, &heard, &mut judge)?;
            }
            watch.now = end;
            if *arrives {
                heard.push(end);
                watch.partner.handle_heartbeat(end);
                judge_all(&mut watch, &heard, &mut judge)?;
            }
        }
    }
    Ok(())
}

/// A change of state, when, and every heartbeat heard until then.
struct Change<'a> {
    from: State,
    to: State,
    at: Instant,
    start: Instant,
    heard: &'a [Instant],
}

fn judge_all(
    watch: &mut Watch,
    heard: &[Instant],
    judge: &mut impl FnMut(&Change) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    while let Some(event) = watch.partner.poll_event() {
        if let Event::Changed { from, to, .. } = event {
            judge(&Change { from, to, at: watch.now, start: watch.start, heard })?;
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn never_fails_over_before_the_interval_of_silence(story in happenings()) {
        let detection = Timers::of(Profile::Rehome).failure_detection_interval;
        play(&story, |change| {
            if change.to == State::FailedOver {
                let last = change.heard.last().copied().unwrap_or(change.start);
                prop_assert!(change.at - last >= detection, "after {:?}", change.at - last);
            }
            Ok(())
        })?;
    }

    #[test]
    fn never_fails_over_twice_within_the_detection_interval(story in happenings()) {
        let detection = Timers::of(Profile::Rehome).failure_detection_interval;
        let mut last: Option<Instant> = None;
        play(&story, |change| {
            if change.to == State::FailedOver {
                if let Some(last) = last {
                    prop_assert!(change.at - last >= detection);
                }
                last = Some(change.at);
            }
            Ok(())
        })?;
    }

    #[test]
    fn users_go_home_only_after_gap_free_hearing(story in happenings()) {
        let patience = Patience::from(&Timers::of(Profile::Rehome));
        play(&story, |change| {
            if change.from.speaks_for_users() && !change.to.speaks_for_users() {
                // Walk back through the heartbeats while no two are further apart than a gap.
                let mut first = *change.heard.last().expect("only hearing sends users home");
                for before in change.heard.iter().rev() {
                    if first - *before >= patience.late_after() {
                        break;
                    }
                    first = *before;
                }
                prop_assert!(change.at - first >= patience.steady_after(), "after {:?}", change.at - first);
            }
            Ok(())
        })?;
    }

    #[test]
    fn no_single_lost_heartbeat_ever_fails_over(lost in prop::collection::vec(2usize..12, 1..50)) {
        // Runs of heartbeats a second apart with exactly one missing between them.
        let mut arrivals = Vec::new();
        for run in lost {
            arrivals.extend(std::iter::repeat_n(true, run));
            arrivals.push(false);
        }
        play(&[Happening::Heartbeats(1_000, arrivals)], |change| {
            prop_assert!(!change.to.speaks_for_users());
            Ok(())
        })?;
    }

    #[test]
    fn a_partner_that_is_never_heard_again_is_failed_over_in_time(story in happenings()) {
        let mut watch = Watch::with(&Timers::of(Profile::Rehome), true);
        for happening in &story {
            if let Happening::Heartbeats(apart, arrivals) = happening {
                for arrives in arrivals {
                    watch.now += Duration::from_millis(*apart);
                    if *arrives {
                        watch.partner.handle_heartbeat(watch.now);
                    }
                }
            }
        }
        let end = watch.at().as_secs() + 6;
        watch.silent_until(end);
        prop_assert_eq!(watch.state(), State::FailedOver);
    }
}

/// Some moment to count from.
#[expect(
    clippy::disallowed_methods,
    reason = "virtual time has to begin somewhere; nothing depends on where"
)]
fn epoch() -> Instant {
    Instant::now()
}
