use super::*;
use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

const FE1: &str = "sip:fe1.example.test:5061;transport=tls";
const FE2: &str = "sip:fe2.example.test:5061;transport=tls";
const DIR: &str = "sip:dir.example.test:5061;transport=tls";

//------------ Table -----------------------------------------------------------------------------------------------

#[test]
fn every_state_meets_every_sign() {
    let mut printed = format!("{:<18}", "sign");
    for state in State::ALL {
        printed += &format!("{state:<12}");
    }
    for sign in Sign::ALL {
        printed = format!("{}\n{:<18}", printed.trim_end(), format!("{sign:?}"));
        for state in State::ALL {
            printed += &format!("{:<12}", next(state, sign));
        }
    }
    assert_eq!(
        printed.trim_end(),
        "\
sign              Discovering Registering AtPrimary   AtBackup    SignedOut
SignIn            Discovering Registering AtPrimary   AtBackup    Discovering
Remembered        Registering Registering AtPrimary   AtBackup    Registering
AnsweredByPrimary AtPrimary   AtPrimary   AtPrimary   AtPrimary   SignedOut
AnsweredByBackup  AtBackup    AtBackup    AtBackup    AtBackup    SignedOut
Redirected        Registering Registering Registering Registering SignedOut
Refused           Discovering Registering Registering Registering SignedOut
Rejected          SignedOut   SignedOut   SignedOut   SignedOut   SignedOut
FlowLost          Discovering Registering Registering Registering SignedOut
Exhausted         Discovering Discovering AtPrimary   AtBackup    SignedOut
PrimaryHeard      Discovering Registering AtPrimary   AtBackup    SignedOut
SentHome          Registering Registering Registering Registering SignedOut
SignOut           SignedOut   SignedOut   SignedOut   SignedOut   SignedOut"
    );
}

//------------ A client under virtual time -------------------------------------------------------------------------

/// A client, its dice, and what it did: steps and events as lines.
struct Client {
    homing: Homing,
    rng: ChaCha12Rng,
    now: Instant,
    steps: Vec<Step>,
    log: Vec<String>,
}

impl Client {
    fn new(profile: Profile) -> Client {
        let now = epoch();
        let rng = ChaCha12Rng::seed_from_u64(7);
        Client { homing: Homing::new(profile, now), rng, now, steps: Vec::new(), log: Vec::new() }
    }

    fn drain(&mut self) -> &mut Client {
        self.steps.clear();
        while let Some(step) = self.homing.poll_step() {
            self.steps.push(step);
        }
        while let Some(event) = self.homing.poll_event() {
            self.log.push(event.to_string());
        }
        self
    }

    fn elapse(&mut self, seconds: u64) -> &mut Client {
        self.now += Duration::from_secs(seconds);
        self.homing.handle_timeout(self.now);
        self.drain()
    }

    /// Waits until the next attempt; says how long that took.
    fn wait(&mut self) -> Duration {
        let until = self.homing.poll_timeout().expect("it waits for something");
        let waited = until - self.now;
        self.now = until;
        self.homing.handle_timeout(until);
        self.drain();
        waited
    }

    fn sign_in(&mut self, remembered: &[&str]) -> &mut Client {
        self.homing.sign_in(list(remembered), self.now);
        self.drain()
    }

    fn discovered(&mut self, found: &[&str]) -> &mut Client {
        self.homing.handle_discovered(list(found), self.now, &mut self.rng);
        self.drain()
    }

    /// 200 from the primary or not; with user services only there, as in the model.
    fn answered(&mut self, is_primary: bool) -> &mut Client {
        self.answered_with(is_primary, &[])
    }

    fn answered_with(&mut self, is_primary: bool, registrars: &[&str]) -> &mut Client {
        let registrars = list(registrars);
        let answer = Answered { is_primary: Some(is_primary), user_services: is_primary, registrars };
        self.homing.handle_answered(answer, self.now);
        self.drain()
    }

    /// 301 to a primary and a backup, q 0.7 and 0.3, written the other way round.
    fn redirected(&mut self, primary: &str, backup: &str) -> &mut Client {
        let contacts = vec![Registrar::with_q(backup, 300), Registrar::with_q(primary, 700)];
        self.homing.handle_redirected(contacts, self.now, &mut self.rng);
        self.drain()
    }

    fn refused(&mut self, why: Refusal) -> &mut Client {
        self.homing.handle_refused(why, self.now, &mut self.rng);
        self.drain()
    }

    fn dead(&mut self) -> &mut Client {
        self.refused(Refusal::Unreachable)
    }

    fn come_again(&mut self, seconds: u64) -> &mut Client {
        self.refused(Refusal::Busy { retry_after: Some(Duration::from_secs(seconds)) })
    }

    fn flow_lost(&mut self) -> &mut Client {
        self.homing.handle_flow_lost(self.now, &mut self.rng);
        self.drain()
    }

    fn sent_home(&mut self, to: &str) -> &mut Client {
        self.homing.handle_sent_home(Some(Registrar::new(to)), self.now, &mut self.rng);
        self.drain()
    }

    #[track_caller]
    fn tries(&mut self, uri: &str) -> &mut Client {
        assert_eq!(self.steps, [Step::Register(uri.into())], "{:#?}", self.log);
        self
    }

    #[track_caller]
    fn discovers(&mut self) -> &mut Client {
        assert_eq!(self.steps, [Step::Discover], "{:#?}", self.log);
        self
    }

    #[track_caller]
    fn remembers(&mut self, uris: &[&str]) -> &mut Client {
        assert_eq!(self.steps, [Step::Remember(list(uris))], "{:#?}", self.log);
        self
    }

    #[track_caller]
    fn waits(&mut self) -> &mut Client {
        assert_eq!(self.steps, []);
        assert!(self.homing.poll_timeout().is_some(), "{:#?}", self.log);
        self
    }

    #[track_caller]
    fn is(&mut self, state: State, service: Service) -> &mut Client {
        assert_eq!((self.homing.state(), self.homing.service()), (state, service), "{:#?}", self.log);
        self
    }
}

fn list(uris: &[&str]) -> Vec<Registrar> {
    uris.iter().map(|uri| Registrar::new(uri)).collect()
}

/// Signed in for a minute at the primary FE2, told of FE1 by a 301: the second user of the experiment.
fn redirected_user(profile: Profile) -> Client {
    let mut client = Client::new(profile);
    client.sign_in(&[]).discovered(&[FE1]).redirected(FE2, FE1).answered(true).elapse(60);
    client.log.clear();
    client
}

//------------ Signing in ------------------------------------------------------------------------------------------

#[test]
fn a_first_sign_in_asks_dns_follows_the_redirect_and_registers_at_home() {
    let mut client = Client::new(Profile::Lync2010);
    client.sign_in(&[]).discovers().is(State::Discovering, Service::None);
    client.discovered(&[FE1]).tries(FE1).is(State::Discovering, Service::None);
    client.redirected(FE2, FE1).tries(FE2).is(State::Registering, Service::None);
    client.answered(true).remembers(&[FE2]).is(State::AtPrimary, Service::Full);
    assert_eq!(client.homing.registrars(), list(&[FE2, FE1]));
    assert_eq!(
        client.log,
        [
            "homing SignedOut → Discovering (sign in)",
            "homing Discovering → Registering (redirected)",
            "homing Registering → AtPrimary (200 from the primary)",
            "service full",
        ]
    );
}

#[test]
fn a_remembered_primary_is_tried_before_dns_is_asked() {
    let mut client = Client::new(Profile::Lync2010);
    client.sign_in(&[FE2]).tries(FE2).answered(true);
    assert_eq!(client.steps, [], "nothing new to remember");
    client.is(State::AtPrimary, Service::Full);
}

#[test]
fn a_dead_remembered_primary_leads_back_to_dns_and_a_director_to_the_backup() {
    let mut client = Client::new(Profile::Lync2010);
    client.sign_in(&[FE2]).tries(FE2).dead().discovers();
    client.discovered(&[DIR]).tries(DIR).redirected(FE2, FE1).tries(FE1).answered(false);
    client.is(State::AtBackup, Service::Limited);
    assert_eq!(client.steps, [], "the model never remembers a backup");
    assert_eq!(client.homing.primary(), Some(&Registrar::new(FE2)));
}

#[test]
fn signing_out_takes_the_registration_back() {
    let mut client = redirected_user(Profile::Rehome);
    client.homing.sign_out(client.now);
    client.drain().is(State::SignedOut, Service::None);
    assert_eq!(client.steps, [Step::Unregister(FE2.into())]);
    assert_eq!(client.homing.poll_timeout(), None);
}

#[test]
fn a_rejected_user_is_signed_out_and_asks_no_more() {
    let mut client = Client::new(Profile::Rehome);
    client.sign_in(&[]).discovered(&[FE1, FE2]).refused(Refusal::Forever).is(State::SignedOut, Service::None);
    assert_eq!((client.steps.len(), client.homing.poll_timeout()), (0, None));
    client.sign_in(&[]).discovers();
}

//------------ Failover --------------------------------------------------------------------------------------------

#[test]
fn a_lost_primary_is_tried_first_then_the_backup_then_dns() {
    let mut client = redirected_user(Profile::Lync2010);
    client.flow_lost().tries(FE2).is(State::Registering, Service::None);
    client.dead().tries(FE1).dead().discovers().is(State::Discovering, Service::None);
    client.discovered(&[FE1, DIR]).tries(DIR).dead().waits();
    client.wait();
    client.tries(FE2);
}

#[test]
fn in_the_model_a_user_who_was_never_redirected_has_nowhere_to_go() {
    let mut client = Client::new(Profile::Lync2010);
    client.sign_in(&[]).discovered(&[FE1]).answered_with(true, &[FE1, FE2]).remembers(&[FE1]).elapse(60);
    client.flow_lost();
    for _ in 0..30 {
        client.tries(FE1).dead().discovers().discovered(&[FE1]).waits();
        client.wait();
    }
}

#[test]
fn in_rehome_every_answer_names_the_backup() {
    let mut client = Client::new(Profile::Rehome);
    client.sign_in(&[]).discovered(&[FE1]).answered_with(true, &[FE1, FE2]).remembers(&[FE1, FE2]).elapse(60);
    client.flow_lost().tries(FE1).dead().tries(FE2).answered_with(false, &[FE1, FE2]);
    client.is(State::AtBackup, Service::Limited);
    assert_eq!(client.homing.primary(), Some(&Registrar::new(FE1)));
}

#[test]
fn a_redirect_to_thousands_is_followed_to_the_best_few() {
    let mut homing = Homing::new(Profile::Rehome, epoch());
    let mut rng = ChaCha12Rng::seed_from_u64(7);
    homing.sign_in(vec![Registrar::new(DIR)], epoch());
    let many = |n: u16| Registrar::with_q(&format!("sip:s{n}.example.test"), n % 1000);
    homing.handle_redirected((0..5000).map(many).collect(), epoch(), &mut rng);
    assert_eq!(homing.registrars().len(), MAX_NAMED);
    assert!(homing.registrars().iter().all(|registrar| registrar.q >= 995));
    let registrars = (0..5000).map(many).collect();
    homing.handle_answered(Answered { is_primary: Some(true), user_services: true, registrars }, epoch());
    assert_eq!(homing.registrars().len(), MAX_NAMED);
}

#[test]
fn a_redirect_to_a_target_just_found_dead_means_wait_and_not_loop() {
    let mut client = redirected_user(Profile::Rehome);
    client.flow_lost().tries(FE2).dead().tries(FE1).redirected(FE2, FE1).discovers();
    assert_eq!(
        client.log.last().unwrap(),
        "homing Registering → Discovering (all known registrars tried)",
        "{:#?}",
        client.log
    );
    assert!(client.log.contains(&format!("redirected by {FE1} to registrars just found dead")));
    client.discovered(&[FE1]).waits();
    client.wait();
    client.tries(FE2);
}

#[test]
fn a_registrar_that_named_a_time_is_left_alone_until_then_and_asked_first_after() {
    let mut client = redirected_user(Profile::Rehome);
    client.flow_lost().dead().tries(FE1).come_again(20).discovers().discovered(&[FE1]).waits();
    let told_at = client.now;
    loop {
        client.wait();
        if client.steps == [Step::Register(FE1.into())] {
            break;
        }
        // Meanwhile the primary is probed at the pace of the back-off.
        client.tries(FE2).dead().discovers().discovered(&[FE1]).waits();
    }
    let waited = client.now - told_at;
    assert!(waited >= Duration::from_secs(20) && waited < Duration::from_secs(21), "{waited:?}");
    client.answered(false).is(State::AtBackup, Service::Limited);
}

#[test]
fn an_outage_shorter_than_the_interval_brings_the_user_back_to_the_primary() {
    let mut client = redirected_user(Profile::Rehome);
    client.flow_lost().dead().come_again(25).discovered(&[]).waits();
    client.wait();
    client.tries(FE2).answered(true).is(State::AtPrimary, Service::Full);
    assert_eq!(client.homing.poll_timeout(), None);
}

#[test]
fn a_refresh_that_is_refused_begins_a_new_attempt_elsewhere() {
    let mut client = redirected_user(Profile::Rehome);
    client.refused(Refusal::Silent).tries(FE1).is(State::Registering, Service::None);
}

#[test]
fn a_refresh_that_says_the_services_are_gone_limits_them_in_place() {
    let mut client = redirected_user(Profile::Rehome);
    let limited = Answered { is_primary: Some(true), user_services: false, registrars: Vec::new() };
    client.homing.handle_answered(limited, client.now);
    client.drain().is(State::AtPrimary, Service::Limited);
    client.answered(true).is(State::AtPrimary, Service::Full);
}

//------------ Failback --------------------------------------------------------------------------------------------

fn user_at_backup(profile: Profile) -> Client {
    let mut client = redirected_user(profile);
    client.flow_lost().dead().answered(false).elapse(60).is(State::AtBackup, Service::Limited);
    client
}

#[test]
fn a_user_who_is_sent_home_registers_there() {
    for profile in [Profile::Lync2010, Profile::Rehome] {
        let mut client = user_at_backup(profile);
        client.sent_home(FE2).tries(FE2).answered(true).is(State::AtPrimary, Service::Full);
    }
}

#[test]
fn a_user_who_is_sent_home_to_a_dead_primary_comes_back() {
    let mut client = user_at_backup(Profile::Lync2010);
    client.sent_home(FE2).tries(FE2).dead().tries(FE1).answered(false).is(State::AtBackup, Service::Limited);
}

#[test]
fn a_refresh_answered_301_at_the_backup_leads_home() {
    let mut client = user_at_backup(Profile::Rehome);
    client.redirected(FE2, FE1).tries(FE2).answered(true).is(State::AtPrimary, Service::Full);
}

#[test]
fn hearing_the_primary_moves_nobody() {
    let mut client = user_at_backup(Profile::Rehome);
    client.homing.handle_primary_heard(client.now);
    client.drain().is(State::AtBackup, Service::Limited);
    assert_eq!(client.steps, []);
}

#[test]
fn two_registrars_that_send_a_user_to_each_other_do_so_at_the_pace_of_the_back_off() {
    let mut client = redirected_user(Profile::Rehome);
    let (start, mut here, mut there) = (client.now, FE2, FE1);
    for _ in 0..20 {
        (here, there) = (there, here);
        client.sent_home(here);
        if client.homing.poll_timeout().is_some() {
            client.wait();
        }
        client.tries(here).answered(true);
    }
    assert!(client.now - start > Duration::from_secs(200), "{:?} with {there}", client.now - start);
}

//------------ Redirects -------------------------------------------------------------------------------------------

#[test]
fn two_registrars_that_point_at_each_other_end_with_the_path() {
    let mut client = Client::new(Profile::Lync2010);
    client.sign_in(&[]).discovered(&[FE1]).redirected(FE2, FE2).tries(FE2);
    client.homing.handle_redirected(list(&[FE1]), client.now, &mut client.rng);
    client.drain().waits().is(State::Discovering, Service::None);
    assert!(client.log.contains(&format!("redirect loop: {FE1} → {FE2} → {FE1}")), "{:#?}", client.log);
}

#[test]
fn an_endless_chain_of_redirects_is_cut_after_five() {
    let mut client = Client::new(Profile::Rehome);
    client.sign_in(&[]).discovered(&["sip:r0.example.test"]);
    for n in 1..=5 {
        let to = format!("sip:r{n}.example.test");
        client.redirected(&to, &to).tries(&to);
    }
    client.redirected("sip:r6.example.test", "sip:r6.example.test").waits();
    let path = "sip:r0.example.test → sip:r1.example.test → sip:r2.example.test → sip:r3.example.test → \
                sip:r4.example.test → sip:r5.example.test";
    assert!(client.log.contains(&format!("too many redirects: {path}")), "{:#?}", client.log);
}

#[test]
fn a_redirect_to_nobody_is_a_refusal() {
    let mut client = Client::new(Profile::Rehome);
    client.sign_in(&[]).discovered(&[FE1, FE2]);
    client.homing.handle_redirected(Vec::new(), client.now, &mut client.rng);
    client.drain().tries(FE2);
}

#[test]
fn a_director_that_puts_the_living_backup_first_does_not_make_it_the_primary() {
    let mut client = Client::new(Profile::Rehome);
    client.sign_in(&[]).discovered(&[DIR]).redirected(FE1, FE2).tries(FE1).answered(false);
    client.remembers(&[FE2, FE1]).is(State::AtBackup, Service::Limited);
}

#[test]
fn a_stock_registrar_that_says_nothing_is_the_primary() {
    let mut client = Client::new(Profile::Rehome);
    client.sign_in(&[]).discovered(&[FE1]);
    let plain = Answered { is_primary: None, user_services: true, registrars: Vec::new() };
    client.homing.handle_answered(plain, client.now);
    client.drain().remembers(&[FE1]).is(State::AtPrimary, Service::Full);
}

#[test]
fn what_comes_too_late_is_ignored() {
    let mut client = Client::new(Profile::Rehome);
    client.sign_in(&[]);
    client
        .answered(true)
        .redirected(FE1, FE2)
        .dead()
        .flow_lost()
        .sent_home(FE1)
        .is(State::Discovering, Service::None);
    client.homing.sign_out(client.now);
    client.drain();
    client.discovered(&[FE1]).answered(true).dead().elapse(3600).is(State::SignedOut, Service::None);
    assert_eq!(client.steps, []);
}

//------------ Promises --------------------------------------------------------------------------------------------

/// What the world does to a client that has something under way.
#[derive(Clone, Debug)]
enum Happening {
    Answered(bool, Vec<usize>),
    Redirected(Vec<(usize, u16)>),
    Busy(Option<u64>),
    Dead,
    FlowLost,
    SentHome(usize),
    Discovered(Vec<usize>),
    Elapse(u64),
    SignOutAndIn(Vec<usize>),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let uris = || prop::collection::vec(0usize..8, 0..5);
    let one = prop_oneof![
        2 => (any::<bool>(), uris()).prop_map(|(primary, named)| Happening::Answered(primary, named)),
        4 => prop::collection::vec((0usize..8, 0u16..=1000), 0..4).prop_map(Happening::Redirected),
        2 => prop::option::of(0u64..100).prop_map(Happening::Busy),
        4 => Just(Happening::Dead),
        2 => Just(Happening::FlowLost),
        1 => (0usize..8).prop_map(Happening::SentHome),
        4 => uris().prop_map(Happening::Discovered),
        3 => (0u64..40_000).prop_map(Happening::Elapse),
        1 => uris().prop_map(Happening::SignOutAndIn),
    ];
    prop::collection::vec(one, 1..120)
}

fn uri(n: usize) -> String {
    format!("sip:r{n}.example.test")
}

fn named(numbers: &[usize]) -> Vec<Registrar> {
    numbers.iter().map(|n| Registrar::new(&uri(*n))).collect()
}

proptest! {
    #[test]
    fn whatever_the_world_does_the_client_has_exactly_one_thing_to_wait_for(
        story in happenings(), is_model: bool, seed: u64,
    ) {
        let profile = if is_model { Profile::Lync2010 } else { Profile::Rehome };
        let mut now = epoch();
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let mut homing = Homing::new(profile, now);
        homing.sign_in(Vec::new(), now);

        let mut asking = false; // discovery is asked and has not answered
        let mut tried: Vec<Arc<str>> = Vec::new(); // in this attempt
        let mut told: Vec<(Arc<str>, Instant)> = Vec::new(); // who said when, not yet over
        for happening in story {
            let registered = homing.state().is_registered();
            let current = homing.current().cloned();
            let mut begins = false;
            match happening {
                Happening::Answered(primary, list) => {
                    let answer = Answered { is_primary: Some(primary), user_services: primary, registrars: named(&list) };
                    homing.handle_answered(answer, now);
                    if current.is_some() {
                        told.clear();
                    }
                }
                Happening::Redirected(list) => {
                    let contacts = list.iter().map(|(n, q)| Registrar::with_q(&uri(*n), *q)).collect();
                    homing.handle_redirected(contacts, now, &mut rng);
                    begins = registered;
                }
                Happening::Busy(seconds) => {
                    let retry_after = seconds.map(Duration::from_secs);
                    homing.handle_refused(Refusal::Busy { retry_after }, now, &mut rng);
                    if let (Some(at), Some(after)) = (&current, retry_after) {
                        told.push((at.clone(), now + after));
                    }
                    begins = registered;
                }
                Happening::Dead => {
                    homing.handle_refused(Refusal::Unreachable, now, &mut rng);
                    begins = registered;
                }
                Happening::FlowLost => {
                    homing.handle_flow_lost(now, &mut rng);
                    begins = registered;
                }
                Happening::SentHome(to) => {
                    homing.handle_sent_home(Some(Registrar::new(&uri(to))), now, &mut rng);
                    begins = registered;
                }
                Happening::Discovered(list) => homing.handle_discovered(named(&list), now, &mut rng),
                Happening::Elapse(ms) => {
                    begins = homing.poll_timeout().is_some();
                    now += Duration::from_millis(ms);
                    homing.handle_timeout(now);
                }
                Happening::SignOutAndIn(list) => {
                    homing.sign_out(now);
                    prop_assert!(homing.poll_timeout().is_none());
                    homing.sign_in(named(&list), now);
                    told.clear();
                    begins = true;
                }
            }
            if begins {
                tried.clear();
            }
            if homing.state().is_registered() {
                tried.clear();
            }
            while let Some(step) = homing.poll_step() {
                match step {
                    Step::Discover => asking = true,
                    Step::Register(at) => {
                        prop_assert!(!tried.contains(&at), "{at} twice in {tried:?}");
                        let early = told.iter().any(|(who, when)| *who == at && *when > now);
                        prop_assert!(!early, "{at} before it wanted");
                        tried.push(at);
                    }
                    Step::Remember(list) => {
                        prop_assert!(profile == Profile::Rehome || list.len() == 1);
                        prop_assert!(homing.state().is_registered());
                    }
                    Step::Unregister(_) => {}
                }
            }
            // Trying one, asking DNS, waiting, or registered: one of them, never none and never two.
            let trying = homing.current().is_some() && !homing.state().is_registered();
            let waiting = homing.poll_timeout().is_some();
            asking = homing.attempt.phase == Phase::Asking && asking;
            let under_way = [trying, waiting, asking, homing.state().is_registered()];
            prop_assert_eq!(under_way.iter().filter(|is| **is).count(), 1, "{:?} in {:?}", under_way, homing);
            prop_assert_eq!(homing.service() == Service::None, !homing.state().is_registered());
            prop_assert!(tried.len() <= 8 + 1);
        }
    }

    #[test]
    fn the_model_learns_no_backup_from_an_answer(list in prop::collection::vec(0usize..8, 0..5)) {
        let mut client = Client::new(Profile::Lync2010);
        client.sign_in(&[]).discovered(&[FE1]);
        let answer = Answered { is_primary: Some(true), user_services: true, registrars: named(&list) };
        client.homing.handle_answered(answer, client.now);
        prop_assert_eq!(client.homing.registrars(), &[Registrar::new(FE1)]);
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
