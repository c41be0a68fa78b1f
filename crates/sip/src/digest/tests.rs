//! The examples of the RFCs, round trips of our own two ends, and what a stranger may try.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// RFC 7616 §3.9.1.
const MUFASA: &str = r#"Digest username="Mufasa",
    realm="http-auth@example.org",
    uri="/dir/index.html",
    algorithm=MD5,
    nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
    nc=00000001,
    cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    qop=auth,
    response="8ca523f5e9506fed4657c9700eebdbec",
    opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#;

const SHA_RESPONSE: &str = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";

fn mufasa(algorithm: Algorithm) -> Ha1 {
    Ha1::of(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life")
}

#[test]
fn the_md5_example_of_rfc_7616_is_believed() {
    let credentials = Credentials::parse(MUFASA).unwrap();
    assert_eq!((credentials.username.as_ref(), credentials.nonce_count), ("Mufasa", Some(1)));
    assert!(credentials.verify(&mufasa(Algorithm::Md5), "GET", b""));
    assert!(!credentials.verify(&mufasa(Algorithm::Md5), "PUT", b""));
    assert!(!credentials.verify(&mufasa(Algorithm::Sha256), "GET", b""));
}

#[test]
fn the_sha_256_example_of_rfc_7616_is_believed() {
    let text = MUFASA
        .replace("algorithm=MD5", "algorithm=SHA-256")
        .replace("8ca523f5e9506fed4657c9700eebdbec", SHA_RESPONSE);
    let credentials = Credentials::parse(&text).unwrap();
    assert!(credentials.verify(&mufasa(Algorithm::Sha256), "GET", b""));
    assert!(!credentials.verify(
        &Ha1::of(Algorithm::Sha256, "Mufasa", "http-auth@example.org", "x"),
        "GET",
        b""
    ));
}

#[test]
fn the_example_of_rfc_2617_is_believed_and_answered() {
    let challenge = Challenge::parse_all(
        r#"Digest realm="testrealm@host.com", qop="auth,auth-int",
           nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41""#,
    )
    .remove(0);
    let ha1 = challenge.ha1("Mufasa", "Circle Of Life");
    let asked = Asked { method: "GET", uri: "/dir/index.html", body: b"" };
    let value = answer(&challenge, "Mufasa", &ha1, &asked, 1, "0a4f113b");
    assert_eq!(
        value,
        "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", \
         nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", uri=\"/dir/index.html\", \
         response=\"6629fae49393a05397450978507c4ef1\", algorithm=MD5, cnonce=\"0a4f113b\", qop=auth, \
         nc=00000001, opaque=\"5ccc069c403ebaf9f0171e9517f40e41\""
    );
    assert!(Credentials::parse(&value).unwrap().verify(&ha1, "GET", b""));
}

#[test]
fn without_qop_the_formula_is_that_of_rfc_2069() {
    let challenge = Challenge { qop: None, ..Challenge::new("r", "n".to_owned(), Algorithm::Md5) };
    let ha1 = challenge.ha1("alice", "secret");
    let asked = Asked { method: "REGISTER", uri: "sip:example.test", body: b"" };
    let value = answer(&challenge, "alice", &ha1, &asked, 1, "unused");
    assert!(!value.contains("cnonce") && !value.contains("nc="), "{value}");
    // MD5(MD5("alice:r:secret") ":n:" MD5("REGISTER:sip:example.test")), by md5sum.
    assert!(value.contains(RFC_2069), "{value}");
    assert!(Credentials::parse(&value).unwrap().verify(&ha1, "REGISTER", b""));
}

const RFC_2069: &str = "9d6c64d303c74ad6d42c89c24f9f1e7b";

#[test]
fn the_uri_goes_into_the_hash_as_sent() {
    // A Lync-family client that answers a 407 writes `(null)` and hashes that.
    let challenge = Challenge::new("example.test", "n".to_owned(), Algorithm::Md5);
    let ha1 = challenge.ha1("alice", "secret");
    let asked = Asked { method: "REGISTER", uri: "(null)", body: b"" };
    let value = answer(&challenge, "alice", &ha1, &asked, 1, "cf241008");
    assert!(Credentials::parse(&value).unwrap().verify(&ha1, "REGISTER", b""));
}

#[test]
fn auth_int_covers_the_body() {
    let challenge =
        Challenge { qop: Some(Qop::AuthInt), ..Challenge::new("r", "n".to_owned(), Algorithm::Sha256) };
    let ha1 = challenge.ha1("alice", "secret");
    let asked = Asked { method: "MESSAGE", uri: "sip:bob@example.test", body: b"hello" };
    let value = answer(&challenge, "alice", &ha1, &asked, 1, "c");
    let credentials = Credentials::parse(&value).unwrap();
    assert!(credentials.verify(&ha1, "MESSAGE", b"hello"));
    assert!(!credentials.verify(&ha1, "MESSAGE", b"hullo"));
}

#[test]
fn the_strongest_challenge_is_answered_wherever_it_stands() {
    let lines = [
        r#"Basic realm="r""#,
        r#"Digest realm="r", nonce="1", algorithm=MD5, qop="auth""#,
        r#"NTLM realm="r", version=4, Digest realm="r", nonce="2", algorithm=sha-256, qop="auth""#,
        r#"Digest realm="r", nonce="3", algorithm=SHA-256, qop="auth""#,
        r#"Digest realm="r", nonce="4", algorithm=SHA-512-256, qop="auth""#,
    ];
    let challenges: Vec<_> = lines.iter().flat_map(|line| Challenge::parse_all(line)).collect();
    let nonces: Vec<_> = challenges.iter().map(|challenge| challenge.nonce.as_str()).collect();
    assert_eq!(nonces, ["1", "2", "3"]);
    assert_eq!(strongest(&challenges).map(|challenge| challenge.nonce.as_str()), Some("2"));
    assert_eq!(strongest(&[]), None);
}

#[test]
fn a_challenge_reads_back_as_it_was_printed() {
    let mut challenge = Challenge::stale("a \"quoted\" realm", "abc".to_owned(), Algorithm::Sha256);
    challenge.opaque = Some("o,o=o".to_owned());
    assert_eq!(
        challenge.to_string(),
        r#"Digest realm="a \"quoted\" realm", nonce="abc", algorithm=SHA-256, qop="auth", opaque="o,o=o", stale=TRUE"#
    );
    assert_eq!(Challenge::parse_all(&challenge.to_string()), [challenge]);
}

#[test]
fn odd_but_legal_credentials_are_read() {
    let credentials = Credentials::parse(
        "dIGEST  Username = \"a\\\"b, c\" ,realm=r,nonce=\"n\",uri=sip:example.test;transport=tls,x-new=\"?\",\
         RESPONSE=\"00\",,qop=\"AUTH\",nc=1,cnonce=\"\", Basic realm=\"other\"",
    )
    .unwrap();
    assert_eq!(credentials.username, "a\"b, c");
    assert_eq!(credentials.uri, "sip:example.test;transport=tls");
    assert_eq!((credentials.qop, credentials.nonce_count), (Some(Qop::Auth), Some(1)));
    assert_eq!(credentials.cnonce, Some(""));
}

#[test]
fn what_cannot_be_checked_says_why() {
    let why = |text: &str| Credentials::parse(text).unwrap_err().to_string();
    let ok = r#"Digest username="u", realm="r", nonce="n", uri="x", response="00""#;
    assert!(Credentials::parse(ok).is_ok());
    assert_eq!(Credentials::parse("Basic dTpw"), Err(Unusable::OtherScheme));
    assert_eq!(Credentials::parse(""), Err(Unusable::OtherScheme));
    assert_eq!(Credentials::parse("NTLM qop=\"auth\", gssapi-data=\"\""), Err(Unusable::OtherScheme));
    assert_eq!(Credentials::parse(&ok.replace("realm=\"r\", ", "")), Err(Unusable::Missing("realm")));
    assert_eq!(Credentials::parse(&format!("{ok}, nonce=\"m\"")), Err(Unusable::Repeated("nonce")));
    assert_eq!(Credentials::parse(&format!("{ok}, qop=auth, nc=1")), Err(Unusable::Missing("cnonce")));
    assert_eq!(Credentials::parse(&format!("{ok}, algorithm=MD5-sess")), Err(Unusable::UnknownAlgorithm));
    assert_eq!(Credentials::parse(&format!("{ok}, qop=auth-conf")), Err(Unusable::UnknownQop));
    assert_eq!(Credentials::parse(&format!("{ok}, nc=123456789")), Err(Unusable::BadCount));
    assert_eq!(Credentials::parse(&format!("{ok}, nc=+1")), Err(Unusable::BadCount));
    assert!(why("Digest username=\"u").contains("a closing quote"));
    assert!(why("Digest username=\"u\" realm=r").contains("a comma"));
}

#[test]
fn a_response_of_the_wrong_length_or_alphabet_is_no_proof() {
    let text = |response: &str| MUFASA.replace("8ca523f5e9506fed4657c9700eebdbec", response);
    for response in ["", "8c", "zca523f5e9506fed4657c9700eebdbec", SHA_RESPONSE] {
        let text = text(response);
        assert!(
            !Credentials::parse(&text).unwrap().verify(&mufasa(Algorithm::Md5), "GET", b""),
            "{response}"
        );
    }
    let upper = text("8CA523F5E9506FED4657C9700EEBDBEC");
    assert!(Credentials::parse(&upper).unwrap().verify(&mufasa(Algorithm::Md5), "GET", b""));
}

#[test]
fn an_ha1_survives_storage_and_never_shows_itself() {
    let ha1 = Ha1::of(Algorithm::Md5, "alice", "example.test", "secret");
    assert_eq!(Ha1::from_hex(Algorithm::Md5, &ha1.to_hex()), Some(ha1));
    assert_eq!(Ha1::from_hex(Algorithm::Sha256, &ha1.to_hex()), None);
    assert_ne!(ha1, Ha1::of(Algorithm::Md5, "alice", "example.test", "Secret"));
    assert_eq!(format!("{ha1:?}"), "Ha1(MD5, hidden)");
    assert_eq!(format!("{:?}", NonceKey::new([7; 32])), "NonceKey(hidden)");
}

#[test]
fn authentication_info_reads_back_and_proves_the_server() {
    let credentials = Credentials::parse(MUFASA).unwrap();
    let rspauth = credentials.rspauth(&mufasa(Algorithm::Md5), b"");
    let info = AuthenticationInfo {
        next_nonce: Some("next".to_owned()),
        proof: Some(ServerProof { rspauth: rspauth.clone(), cnonce: "c".to_owned(), nonce_count: 255 }),
    };
    assert_eq!(
        info.to_string(),
        format!("nextnonce=\"next\", qop=auth, rspauth=\"{rspauth}\", cnonce=\"c\", nc=000000ff")
    );
    assert_eq!(AuthenticationInfo::parse(&info.to_string()), info);
    assert_ne!(rspauth, credentials.rspauth(&mufasa(Algorithm::Sha256), b""));
    assert_eq!(AuthenticationInfo::parse("NTLM srand=\"1\", snum=\"1\""), AuthenticationInfo::default());
}

//------------ Nonces ---------------------------------------------------------

const NOW: u64 = 1_795_000_000;
const LIFETIME: Duration = Duration::from_secs(3600);

#[test]
fn a_nonce_is_believed_by_the_partner_until_its_lifetime_is_over() {
    let (north, south) = (NonceKey::new([1; 32]), NonceKey::new([1; 32]));
    let nonce = north.mint(NOW, 42);
    assert_eq!(nonce.len(), 40);
    assert_eq!(south.judge(&nonce, NOW, LIFETIME), NonceVerdict::Fresh);
    assert_eq!(south.judge(&nonce, NOW + 3600, LIFETIME), NonceVerdict::Fresh);
    assert_eq!(south.judge(&nonce, NOW + 3601, LIFETIME), NonceVerdict::Stale);
}

#[test]
fn a_nonce_from_a_clock_that_runs_ahead_is_believed_within_reason() {
    let key = NonceKey::new([1; 32]);
    assert_eq!(key.judge(&key.mint(NOW + 3600, 0), NOW, LIFETIME), NonceVerdict::Fresh);
    assert_eq!(key.judge(&key.mint(NOW + 3601, 0), NOW, LIFETIME), NonceVerdict::Stale);
}

#[test]
fn a_nonce_of_another_key_or_with_one_letter_changed_is_foreign() {
    let key = NonceKey::new([1; 32]);
    let nonce = key.mint(NOW, 42);
    assert_eq!(NonceKey::new([2; 32]).judge(&nonce, NOW, LIFETIME), NonceVerdict::Foreign);
    for place in 0..nonce.len() {
        let mut letters = nonce.clone().into_bytes();
        letters[place] = if letters[place] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(letters).unwrap();
        assert_eq!(key.judge(&forged, NOW, LIFETIME), NonceVerdict::Foreign, "{forged}");
    }
    for text in ["", "A", "not base64 at all, but of forty letters!", &"A".repeat(40), &"é".repeat(20)] {
        assert_eq!(key.judge(text, NOW, LIFETIME), NonceVerdict::Foreign, "{text}");
    }
}

#[test]
fn salts_keep_nonces_of_one_second_apart() {
    let key = NonceKey::new([1; 32]);
    assert_ne!(key.mint(NOW, 1), key.mint(NOW, 2));
}

#[test]
fn nobody_can_answer_for_a_user_who_does_not_exist() {
    let key = NonceKey::new([1; 32]);
    let credentials = Credentials::parse(MUFASA).unwrap();
    assert!(!credentials.verify(&key.decoy(Algorithm::Md5), "GET", b""));
    assert_ne!(key.decoy(Algorithm::Md5), NonceKey::new([2; 32]).decoy(Algorithm::Md5));
}

#[test]
fn a_count_is_taken_once_and_may_come_out_of_order() {
    let nonce = NonceKey::new([1; 32]).mint(NOW, 1);
    let mut counts = NonceCounts::new(8);
    for (count, expected) in [
        (1, Counted::New),
        (1, Counted::Replayed),
        (4, Counted::New),
        (3, Counted::New),
        (3, Counted::Replayed),
        (100, Counted::New),
        (37, Counted::New),
        (36, Counted::Replayed),
        (u32::MAX, Counted::New),
        (100, Counted::Replayed),
        (0, Counted::Replayed),
    ] {
        assert_eq!(counts.count(&nonce, count), expected, "{count}");
    }
}

#[test]
fn counts_below_the_first_one_seen_were_used_elsewhere() {
    let nonce = NonceKey::new([1; 32]).mint(NOW, 1);
    let mut counts = NonceCounts::new(8);
    let counted: Vec<_> = [5, 4, 1, 7, 6].map(|count| counts.count(&nonce, count)).into();
    assert_eq!(counted, [Counted::New, Counted::Replayed, Counted::Replayed, Counted::New, Counted::New]);
}

#[test]
fn a_server_that_has_just_started_takes_no_older_nonce() {
    let key = NonceKey::new([1; 32]);
    let mut counts = NonceCounts::new(8);
    counts.forget_before(NOW);
    assert_eq!(counts.count(&key.mint(NOW - 1, u64::MAX), 9), Counted::Forgotten);
    assert_eq!(counts.count(&key.mint(NOW, 0), 1), Counted::New);
}

#[test]
fn a_full_table_forgets_the_oldest_without_letting_a_replay_in() {
    let key = NonceKey::new([1; 32]);
    let nonces: Vec<_> = (0..4).map(|age| key.mint(NOW + age, 0)).collect();
    let mut counts = NonceCounts::new(2);
    for nonce in &nonces {
        assert_eq!(counts.count(nonce, 1), Counted::New);
    }
    assert_eq!(counts.len(), 2);
    let again: Vec<_> = nonces.iter().map(|nonce| counts.count(nonce, 1)).collect();
    assert_eq!(again, [Counted::Forgotten, Counted::Forgotten, Counted::Replayed, Counted::Replayed]);
    assert_eq!(counts.count(&nonces[3], 2), Counted::New);

    counts.forget_stale(NOW + 3 + 3600, LIFETIME);
    assert_eq!(counts.len(), 1, "only the youngest is still within its lifetime");
}

proptest! {
    #[test]
    fn no_text_makes_a_reader_panic(text in "(Digest |NTLM |[a-z]{1,4}=|\"|\\\\|[ ,=é\u{0}]|[a-f0-9]{1,9}){0,24}") {
        let _ = Credentials::parse(&text);
        let _ = Challenge::parse_all(&text);
        let _ = AuthenticationInfo::parse(&text);
        let _ = NonceKey::new([0; 32]).judge(&text, NOW, LIFETIME);
    }

    #[test]
    fn what_our_client_answers_our_server_believes(
        user in "[ -~é]{0,12}", realm in "[ -~]{0,12}", password in "[ -~é]{0,12}",
        salt: u64, count: u32, sha: bool,
    ) {
        let key = NonceKey::new([9; 32]);
        let algorithm = if sha { Algorithm::Sha256 } else { Algorithm::Md5 };
        let sent = Challenge::new(&realm, key.mint(NOW, salt), algorithm).to_string();
        let challenge = Challenge::parse_all(&sent).remove(0);
        let asked = Asked { method: "REGISTER", uri: "sip:example.test", body: b"" };
        let value = answer(&challenge, &user, &challenge.ha1(&user, &password), &asked, count, "c0ffee");
        let credentials = Credentials::parse(&value).unwrap();
        prop_assert_eq!(&credentials.username, &user);
        prop_assert_eq!(&credentials.realm, &realm);
        prop_assert_eq!(credentials.nonce_count, Some(count));
        prop_assert_eq!(key.judge(credentials.nonce, NOW, LIFETIME), NonceVerdict::Fresh);
        prop_assert!(credentials.verify(&Ha1::of(algorithm, &user, &realm, &password), "REGISTER", b""));
    }
}
