//! The embedded store: what survives what, and how its troubles are told.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use net::disk::{Disk, Durability, News, records_of, store_path};
use net::sqlite::Trouble;
use server::{BindingRecord, Change, DeRegister, RegistrationRecord};

const LONG: Duration = Duration::from_secs(3_600);

fn binding(user: &str, cseq: u32) -> Change {
    Change::Binding(BindingRecord {
        aor: format!("sip:{user}@example.test").parse().unwrap(),
        key: "<urn:uuid:1>;reg-id=1".into(),
        contact: format!("<sip:{user}@127.3.0.1:5060>"),
        call_id: "c1".into(),
        cseq,
        q: 700,
        expires_in: Duration::from_secs(600),
        path: vec!["<sip:edge;lr>".into(), "<sip:core;lr>".into()],
        flow: "UDP 127.1.0.1:5060 127.3.0.1:5060 0".into(),
        user_agent: Some("test".into()),
        instance: Some("<urn:uuid:1>".into()),
        reg_id: Some(1),
        dialect: String::new(),
    })
}

fn open(directory: &Path, durability: Durability) -> (Disk, Vec<Change>, Receiver<News>) {
    let (news, heard) = channel();
    let tell = move |said| {
        let _ = news.send(said);
    };
    let (disk, restored) = Disk::open(directory, durability, tell).unwrap();
    (disk, restored, heard)
}

fn next(heard: &Receiver<News>, what: &str) -> News {
    heard.recv_timeout(Duration::from_secs(10)).unwrap_or_else(|_| panic!("waited 10 s for {what}"))
}

/// Users and their CSeq, as restored.
fn seen(restored: &[Change]) -> Vec<(String, u32)> {
    let of = |change: &Change| match change {
        Change::Binding(binding) => (binding.aor.user().to_string(), binding.cseq),
        other => panic!("only bindings are restored, not {other:?}"),
    };
    restored.iter().map(of).collect()
}

#[test]
fn a_binding_comes_back_as_it_was_with_the_time_it_has_left() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, restored, _) = open(dir.path(), Durability::default());
    assert!(restored.is_empty());
    let mut outlived = binding("carol", 1);
    if let Change::Binding(binding) = &mut outlived {
        binding.expires_in = Duration::ZERO;
    }
    let gone =
        Change::Unbound { aor: "sip:bob@example.test".parse().unwrap(), key: "<urn:uuid:1>;reg-id=1".into() };
    disk.persist([binding("alice", 1), binding("bob", 1), outlived, binding("alice", 2), gone]);
    assert_eq!(disk.close(), 0);

    let (disk, restored, _) = open(dir.path(), Durability::default());
    let [Change::Binding(back)] = restored.as_slice() else { panic!("{restored:?}") };
    let left = back.expires_in;
    assert!(left > Duration::from_secs(590) && left <= Duration::from_secs(600), "{left:?}");
    let mut back = back.clone();
    back.expires_in = Duration::from_secs(600);
    assert_eq!(Change::Binding(back), binding("alice", 2));
    drop(disk);
}

#[test]
fn a_killed_process_loses_what_write_behind_had_not_written_and_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, _, heard) = open(dir.path(), Durability::WriteBehind(Duration::from_millis(50)));
    let ticket = disk.persist([binding("alice", 1)]);
    assert_eq!(next(&heard, "the commit"), News::Committed(ticket));
    disk.abandon();
    let (disk, restored, _) = open(dir.path(), Durability::WriteBehind(LONG));
    assert_eq!(seen(&restored), [("alice".into(), 1)]);
    disk.persist([binding("alice", 2), binding("bob", 1)]);
    assert_eq!(disk.unsaved(), 2);
    disk.abandon();
    let (_, restored, _) = open(dir.path(), Durability::default());
    assert_eq!(seen(&restored), [("alice".into(), 1)]);
}

#[test]
fn strict_loses_nothing_that_was_committed_and_none_keeps_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, _, heard) = open(dir.path(), Durability::Strict);
    for cseq in 1..=20 {
        let ticket = disk.persist([binding("alice", cseq)]);
        while disk.committed() < ticket {
            next(&heard, "the commit");
        }
    }
    disk.abandon();
    let (disk, restored, _) = open(dir.path(), Durability::Strict);
    assert_eq!(seen(&restored), [("alice".into(), 20)]);
    disk.abandon();

    let (disk, restored, _) = open(dir.path(), Durability::None);
    assert!(restored.is_empty());
    assert_eq!((disk.persist([binding("bob", 1)]), disk.committed(), disk.unsaved()), (1, 1, 0));
}

#[test]
fn a_full_disk_is_told_once_and_when_there_is_room_again_nothing_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, _, heard) = open(dir.path(), Durability::WriteBehind(Duration::from_millis(1)));
    disk.set_size_limit(1);
    for user in 0..2_000 {
        disk.persist([binding(&format!("user{user:04}"), 1)]);
    }
    let failed = loop {
        match next(&heard, "the failure") {
            News::Failed(why) => break why,
            News::Committed(_) => {}
            News::Recovered => panic!("nothing had failed"),
        }
    };
    assert_eq!((failed.trouble, &failed.path), (Trouble::Full, &store_path(dir.path())), "{failed}");
    assert!(disk.unsaved() > 0);
    disk.persist([binding("user0000", 2)]);
    disk.set_size_limit(1 << 30);
    assert_eq!(next(&heard, "the recovery"), News::Recovered);
    assert_eq!(disk.close(), 0);
    let (_, restored, _) = open(dir.path(), Durability::default());
    let seen = seen(&restored);
    assert_eq!((seen.len(), &seen[0]), (2_000, &("user0000".into(), 2)));
}

#[test]
fn somebody_who_holds_the_file_delays_the_writer_and_people_may_read_it_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, _, heard) = open(dir.path(), Durability::Strict);
    let person = rusqlite::Connection::open(store_path(dir.path())).unwrap();
    person.execute_batch("BEGIN IMMEDIATE").unwrap();
    disk.persist([binding("alice", 1)]);
    assert!(matches!(next(&heard, "the failure"), News::Failed(why) if why.trouble == Trouble::Locked));
    person.execute_batch("COMMIT").unwrap();
    assert_eq!(next(&heard, "the recovery"), News::Recovered);
    let contact: String = person.query_row("SELECT contact FROM bindings", (), |row| row.get(0)).unwrap();
    assert_eq!(contact, "<sip:alice@127.3.0.1:5060>");
}

#[test]
fn registration_records_are_kept_and_read_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, _, _) = open(dir.path(), Durability::default());
    let record = |ended_at, deregister| RegistrationRecord {
        aor: "sip:alice@example.test".parse().unwrap(),
        key: "k".into(),
        server: "fe1.example.test".into(),
        pool: "pool1.example.test".into(),
        is_primary: true,
        user_services: true,
        registered_at: 1,
        ended_at,
        deregister,
        remote: Some("127.3.0.1:5060".parse().unwrap()),
        status: 200,
        diagnostic: None,
    };
    let (first, second) =
        (record(10, DeRegister::Expired), record(20, DeRegister::PreferredRegistrarChanged));
    disk.persist([Change::Record(first.clone()), Change::Record(second.clone())]);
    disk.close();
    assert_eq!(records_of(dir.path(), &first.aor, 5).unwrap(), [second.clone(), first.clone()]);
    assert_eq!(records_of(dir.path(), &first.aor, 1).unwrap(), [second]);
}

#[test]
fn every_trouble_at_start_names_the_file_and_the_cure() {
    let dir = tempfile::tempdir().unwrap();
    let fails = |directory: &Path| Disk::open(directory, Durability::default(), |_| {}).err().unwrap();

    let (disk, _, _) = open(dir.path(), Durability::default());
    let why = fails(dir.path());
    assert_eq!(why.trouble, Trouble::Locked);
    assert!(why.to_string().contains(&format!("process {} serves", std::process::id())), "{why}");
    disk.close();

    rusqlite::Connection::open(store_path(dir.path()))
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    let why = fails(dir.path());
    assert_eq!((why.trouble, why.path.clone()), (Trouble::Newer, store_path(dir.path())), "{why}");

    std::fs::write(store_path(dir.path()), "not a database, but a long enough line of text".repeat(50))
        .unwrap();
    let why = fails(dir.path());
    assert_eq!((why.trouble, why.path.clone()), (Trouble::Corrupt, store_path(dir.path())), "{why}");

    let in_the_way = dir.path().join("file");
    std::fs::write(&in_the_way, "").unwrap();
    let why = fails(&in_the_way.join("data"));
    assert_eq!(why.trouble, Trouble::Unwritable, "{why}");
    assert!(why.to_string().contains("create the directory"), "{why}");
}
