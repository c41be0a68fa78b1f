use super::*;
use crate::history::{History, Place, Service, What};

const STORY: &str = "\
# Somebody is thrown off, and comes back.
# What would go wrong otherwise: nobody would know.

topology two-sites
user clientuser2 homed on fe2.example.test   # pool 2

sign-in clientuser2
expect S1 clientuser2 at fe2 full within 5s
[rehome] elapse 1.5s
where clientuser2
----
 old line

cut fe2.example.test
expect clientuser2 signed out between 25s and 40s
---- lync2010
---- rehome
";

/// A world in which everything happens as planned beforehand.
struct Planned {
    plan: Vec<(Duration, What)>,
    now: Duration,
    history: History,
    log: Vec<String>,
}

impl World for Planned {
    fn act(&mut self, verb: &Verb) -> Result<(), String> {
        self.log.push(format!("{verb:?}"));
        Ok(())
    }

    fn run_until(&mut self, deadline: Duration, done: &mut dyn FnMut(&History) -> bool) {
        while !done(&self.history) {
            match self.plan.first() {
                Some((at, _)) if *at <= deadline => {
                    let (at, what) = self.plan.remove(0);
                    self.now = at;
                    self.history.add(at, what);
                }
                _ => {
                    self.now = deadline;
                    return;
                }
            }
        }
    }

    fn now(&self) -> Duration {
        self.now
    }

    fn history(&self) -> &History {
        &self.history
    }

    fn take_log(&mut self) -> Option<Vec<String>> {
        Some(std::mem::take(&mut self.log))
    }
}

fn standing(at: u64, place: Option<&str>) -> (Duration, What) {
    let place = place.map(|name| Place { server: name.to_owned(), pool: name.to_owned() });
    let service = if place.is_some() { Service::Full } else { Service::None };
    (Duration::from_secs(at), What::Standing { user: "clientuser2".to_owned(), service, place })
}

fn play(plan: Vec<(Duration, What)>, profile: Profile) -> Outcome {
    let story = parse("test", STORY).expect("the story is well-formed");
    let setup = story.setup_for(profile).expect("the set-up is well-formed");
    let mut world = Planned { plan, now: Duration::ZERO, history: History::new(), log: Vec::new() };
    run(&story, &setup, profile, &mut world, &mut |_| {})
}

#[test]
fn a_story_that_is_as_told_holds_and_says_when() {
    let outcome = play(vec![standing(1, Some("fe2.example.test")), standing(31, None)], Profile::Lync2010);
    let judged: Vec<_> = outcome.rows.iter().map(|row| (row.step.as_str(), row.ok, row.seconds)).collect();
    assert_eq!(judged, [("S1", true, 1.0), ("test", true, 30.0)]);
}

#[test]
fn what_comes_too_early_too_late_or_never_fails() {
    for plan in [
        vec![standing(1, Some("fe2.example.test")), standing(11, None)],
        vec![standing(1, Some("fe2.example.test")), standing(51, None)],
        vec![standing(1, Some("fe2.example.test"))],
    ] {
        let outcome = play(plan.clone(), Profile::Lync2010);
        assert!(outcome.rows[0].ok && !outcome.rows[1].ok, "{plan:?} gave {:?}", outcome.rows);
    }
    let elsewhere = play(vec![standing(1, Some("fe1.example.test"))], Profile::Lync2010);
    assert!(!elsewhere.rows[0].ok);
    assert_eq!(elsewhere.rows[0].seen, "fe1.example.test (full functionality), since 1.000s");
}

#[test]
fn log_blocks_are_compared_and_can_be_rewritten() {
    let plan = vec![standing(1, Some("fe2.example.test")), standing(31, None)];
    let outcomes = [play(plan.clone(), Profile::Lync2010), play(plan, Profile::Rehome)];
    assert_eq!(outcomes[0].mismatches.len(), 2, "both blocks are out of date");
    let story = parse("test", STORY).expect("the story is well-formed");
    let rewritten = story.with_blocks_of(&outcomes);
    assert!(!rewritten.contains("old line"), "{rewritten}");
    assert!(rewritten.contains("fe2.example.test (full functionality), since 1.000s"), "{rewritten}");
    assert_eq!(
        rewritten.matches("----").count(),
        2,
        "blocks alike in both profiles are written once:\n{rewritten}"
    );
    assert!(rewritten.contains("[rehome] elapse 1.5s\n"), "everything else stays as it was:\n{rewritten}");
}

#[test]
fn a_story_without_a_reason_is_refused() {
    let error = parse("test", "topology two-sites\n").expect_err("no comment at the top");
    assert_eq!(
        error.to_string(),
        "test.scn:1: a story begins with a comment: what would go wrong otherwise?"
    );
}

#[test]
fn mistakes_are_named_with_their_line() {
    for (line, says) in [
        ("sign-up alice", "`sign-up` is not a command"),
        ("elapse 30", "expected a duration such as 75s, found `30`"),
        ("expect alice at fe1 soon", "expected `within`, found `soon`"),
        ("user alice homed on nowhere.example.test", "no pool is called `nowhere.example.test`"),
        ("[lync] elapse 1s", "no such profile"),
        ("cut fe1 fe2", "`fe2` is too much on this line"),
    ] {
        let error =
            parse("test", &format!("# why\n\n{line}\n")).err().unwrap_or_else(|| panic!("{line} was taken"));
        assert_eq!(error.line, 3, "{line}");
        assert!(error.why.contains(says), "{line} gave {error}");
    }
}

#[test]
fn a_claim_that_nothing_happens_must_name_somebody_it_could_happen_to() {
    for (claim, says) in [
        ("never 200 to clientuser2 from fe3 before 30s", Some("no server or pool is called `fe3`")),
        ("no 301 to clientuser3", Some("no user is called `clientuser3`")),
        ("clientuser3 stays out for 5s", Some("clientuser3")),
        ("clientuser2 tries only fe1, fe4", Some("fe4")),
        ("fe1 never sees fe2 FailedOver before 60s", Some("no pool is called `fe2`")),
        ("fe1 never sees fe2.example.test Failedover before 60s", Some("never `Failedover`")),
        ("fe1 never sees fe2.example.test FailedOver before 60s", None),
        ("clientuser2/2 stays at fe1 for 5s", None),
    ] {
        let text = format!(
            "# why\n\ntopology two-sites\nuser clientuser2 homed on fe2.example.test\nexpect {claim}\n"
        );
        let told = parse("test", &text).and_then(|story| story.setup_for(Profile::Rehome)).err();
        assert_eq!(told.is_some(), says.is_some(), "{claim}: {told:?}");
        let is_told = |error: StoryError| error.line == 5 && error.why.contains(says.unwrap_or_default());
        assert!(told.is_none_or(is_told), "{claim}");
    }
}

#[test]
fn every_claim_of_the_table_is_understood() {
    for claim in [
        "clientuser1 at fe1 within 5s",
        "clientuser1 at fe1 limited within 75s",
        "clientuser1 signed out between 25s and 40s",
        "clientuser1 stays at fe1 for 2m",
        "clientuser1 stays out for 480s",
        "clientuser1 tries fe1 within 5s",
        "clientuser1 tries only fe1, fe2",
        "clientuser1 tries at most 6 times",
        "clientuser1 asks _sipinternaltls._tcp.example.test within 40s",
        "clientuser1 told \"event=preferred-registrar-change\" naming fe2.example.test within 50s",
        "clientuser1 says \"outside the SIP domain\" within 5s",
        "clientuser1 ended 5 at fe1 within 50s",
        "clientuser1 gets 200 within 5s",
        "clientuser1 reached within 5s",
        "301 to clientuser2 from fe1 listing fe2.example.test, fe1.example.test within 5s",
        "503 to clientuser2 from fe1 saying \"4165\" within 60s",
        "no 301",
        "one 301 to clientuser2 from fe1",
        "never 200 to clientuser2 from fe1 before 30s",
        "never NOTIFY before 100s",
        "fe1 sees fe2.example.test FailedOver within 40s",
        "fe1 never sees fe2.example.test FailedOver before 60s",
    ] {
        assert!(Expectation::parse(claim).is_ok(), "{claim}: {:?}", Expectation::parse(claim));
    }
}
