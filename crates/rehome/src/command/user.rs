//! `rehome user …`: who the users are, and on which pool each is homed.
//!
//! The directory is a file. Running servers see that it has changed and take the new one; nothing here talks
//! to a server, so all of this works while every server is down.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::Context;
use net::directory::DirectoryFile;
use resilience::topology::{Pool, Role, Topology};
use serde_json::{Value, json};
use server::directory::User;
use sip::digest::{Algorithm, Ha1};
use sip::uri::AddressOfRecord;

use super::{Trouble, read_topology};
use crate::config::nearest;
use crate::output::{Output, Table};

/// The users: who they are, on which pool each is homed.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rehome user add alice@example.test --home fe1.example.test
  rehome user add bob@example.test --home fe2.example.test --password-file bob.password
  rehome user move alice@example.test fe2.example.test
  rehome user list --json")]
pub(crate) struct Arguments {
    /// The deployment: which domains and pools there are.
    #[arg(long, global = true, value_name = "FILE", default_value = "topology.toml")]
    topology: PathBuf,
    /// The directory to read or change; made by the first `add`.
    #[arg(long, global = true, value_name = "FILE", default_value = "directory.sqlite")]
    directory: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Adds a user; the password is asked for, or read from a file, and only its hashes are kept.
    Add {
        /// The user: alice@example.test.
        user: AddressOfRecord,
        /// The pool to home the user on.
        #[arg(long, value_name = "POOL")]
        home: String,
        /// Telephone number with country code, called when no pool has the user: +4989123.
        #[arg(long, value_parser = telephone_number)]
        number: Option<String>,
        #[command(flatten)]
        password: NewPassword,
    },
    /// Adds or replaces many users at once, from lines `user,home pool,password[,number]`; all of them or none.
    Import {
        /// The file; empty lines and lines that begin with `#` are passed over.
        file: PathBuf,
    },
    /// Lists all users.
    List {
        /// Only those homed on this pool.
        #[arg(long, value_name = "POOL")]
        home: Option<String>,
    },
    /// Shows one user: primary, backup, and in which order the servers are preferred.
    Show {
        /// The user.
        user: AddressOfRecord,
    },
    /// Homes a user on another pool.
    Move {
        /// The user.
        user: AddressOfRecord,
        /// The new home.
        pool: String,
    },
    /// Keeps a user from registering, without forgetting them.
    Disable {
        /// The user.
        user: AddressOfRecord,
    },
    /// Lets a disabled user register again.
    Enable {
        /// The user.
        user: AddressOfRecord,
    },
    /// Gives a user a new password.
    Password {
        /// The user.
        user: AddressOfRecord,
        #[command(flatten)]
        password: NewPassword,
    },
    /// Forgets a user.
    Remove {
        /// The user.
        user: AddressOfRecord,
    },
}

/// Where a new password comes from. Never from the command line: others can read that.
#[derive(clap::Args)]
struct NewPassword {
    /// Reads the password from the first line of a file; `-` is standard input. Asked for if left out.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments, output: Output) -> Result<(), Trouble> {
    let Arguments { topology, directory, verb } = arguments;
    match verb {
        Verb::Add { user, home, number, password } => {
            let topology = read_topology(&topology)?;
            let home = pool_for(&topology, &user, &home)?;
            let password = password.read(&user)?;
            let mut file = DirectoryFile::open(&directory).map_err(anyhow::Error::from)?;
            file.add(&user, &home.name, user.domain(), &password, number.as_deref())
                .map_err(anyhow::Error::from)?;
            say_user(&topology, &file, &user, output)
        }
        Verb::Import { file } => import(&read_topology(&topology)?, &directory, &file, output),
        Verb::List { home } => list(&read_topology(&topology)?, open(&directory)?, home.as_deref(), output),
        Verb::Show { user } => say_user(&read_topology(&topology)?, &open(&directory)?, &user, output),
        Verb::Move { user, pool } => {
            let topology = read_topology(&topology)?;
            let home = pool_for(&topology, &user, &pool)?;
            let mut file = open(&directory)?;
            file.move_to(&user, &home.name).map_err(anyhow::Error::from)?;
            say_user(&topology, &file, &user, output)
        }
        Verb::Disable { user } => set_enabled(&topology, &directory, &user, false, output),
        Verb::Enable { user } => set_enabled(&topology, &directory, &user, true, output),
        Verb::Password { user, password } => {
            let mut file = open(&directory)?;
            known(&file, &user)?;
            let password = password.read(&user)?;
            file.set_password(&user, user.domain(), &password).map_err(anyhow::Error::from)?;
            output.say(
                format!("{}: new password", short(&user)),
                &json!({ "user": short(&user), "changed": true }),
            )?;
            Ok(())
        }
        Verb::Remove { user } => {
            open(&directory)?.remove(&user).map_err(anyhow::Error::from)?;
            output.say(
                format!("{}: forgotten", short(&user)),
                &json!({ "user": short(&user), "removed": true }),
            )?;
            Ok(())
        }
    }
}

/// Adds the users of a file, after all of its lines have been understood.
fn import(topology: &Topology, directory: &Path, path: &Path, output: Output) -> Result<(), Trouble> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let mut users = Vec::new();
    for (number, line) in
        (1..).zip(text.lines()).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
    {
        let user = imported(topology, line).map_err(|why| {
            Trouble::Usage(format!("{}:{number}: {why}; nothing was imported", path.display()))
        })?;
        users.push(user);
    }
    let mut file = DirectoryFile::open(directory).map_err(anyhow::Error::from)?;
    file.put_all(users.iter().map(|(aor, user)| (aor, user))).map_err(anyhow::Error::from)?;
    output.say(format!("imported {} users", users.len()), &json!({ "imported": users.len() }))?;
    Ok(())
}

/// One line of an import: `user,home pool,password[,number]`.
fn imported(topology: &Topology, line: &str) -> Result<(AddressOfRecord, User), String> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let (aor, home, password, number) = match fields.as_slice() {
        [aor, home, password] => (aor, home, password, None),
        [aor, home, password, number] => (aor, home, password, Some(telephone_number(number)?)),
        _ => return Err("expected `user,home pool,password[,number]`".to_owned()),
    };
    let aor: AddressOfRecord = aor.parse().map_err(|why| format!("`{aor}` is no user: {why}"))?;
    let home = pool_for(topology, &aor, home).map_err(|trouble| trouble.to_string().trim().to_owned())?;
    if password.is_empty() {
        return Err("the password is empty; a user without one cannot register".to_owned());
    }
    let ha1 = |algorithm| Ha1::of(algorithm, aor.user(), aor.domain(), password);
    let user = User {
        home: home.name.clone(),
        enabled: true,
        number,
        ha1_md5: ha1(Algorithm::Md5),
        ha1_sha256: ha1(Algorithm::Sha256),
    };
    Ok((aor, user))
}

/// Opens a directory that must be there: a misspelt name would otherwise look like an empty one.
fn open(path: &Path) -> Result<DirectoryFile, Trouble> {
    if !path.exists() {
        return Err(Trouble::Usage(format!(
            "there is no user directory {}; `rehome user add` makes one, `--directory` names another",
            path.display()
        )));
    }
    Ok(DirectoryFile::open(path).map_err(anyhow::Error::from)?)
}

/// The pool a user is to be homed on, if that makes sense.
fn pool_for<'t>(topology: &'t Topology, user: &AddressOfRecord, home: &str) -> Result<&'t Pool, Trouble> {
    if !topology.serves(user.domain()) {
        return Err(Trouble::Usage(format!(
            "{}: the domain {} is not served; served are {}",
            short(user),
            user.domain(),
            topology.domains.join(", ")
        )));
    }
    let registrars =
        || topology.pools.iter().filter(|pool| pool.role == Role::Registrar).map(|pool| pool.name.as_str());
    match topology.pool(home) {
        Some(pool) if pool.role == Role::Registrar => Ok(pool),
        Some(pool) => Err(Trouble::Usage(format!(
            "{} is a director and homes nobody; pools that do: {}",
            pool.name,
            registrars().collect::<Vec<_>>().join(", ")
        ))),
        None => Err(Trouble::Usage(match nearest(home, registrars()) {
            Some(near) => format!("there is no pool \"{home}\"; did you mean \"{near}\"?"),
            None => format!(
                "there is no pool \"{home}\"; there are {}",
                registrars().collect::<Vec<_>>().join(", ")
            ),
        })),
    }
}

fn known(file: &DirectoryFile, user: &AddressOfRecord) -> Result<User, Trouble> {
    let found = file.user(user).map_err(anyhow::Error::from)?;
    Ok(found.with_context(|| format!("there is no user {}; `rehome user list` names all", short(user)))?)
}

fn set_enabled(
    topology: &Path,
    directory: &Path,
    user: &AddressOfRecord,
    enabled: bool,
    output: Output,
) -> Result<(), Trouble> {
    let mut file = open(directory)?;
    known(&file, user)?;
    file.set_enabled(user, enabled).map_err(anyhow::Error::from)?;
    say_user(&read_topology(topology)?, &file, user, output)
}

fn list(
    topology: &Topology,
    mut file: DirectoryFile,
    home: Option<&str>,
    output: Output,
) -> Result<(), Trouble> {
    let directory = file.load().map_err(anyhow::Error::from)?;
    let chosen = || directory.users.iter().filter(|(_, user)| home.is_none_or(|home| user.home == *home));
    let mut table = Table::new(["user", "primary", "backup", "number", "may register"]);
    for (aor, user) in chosen() {
        table.row([
            short(aor).to_owned(),
            user.home.to_string(),
            backup(topology, user).unwrap_or("none").to_owned(),
            user.number.clone().unwrap_or_else(|| "—".to_owned()),
            if user.enabled { "yes" } else { "no" }.to_owned(),
        ]);
    }
    let users: Vec<Value> = chosen().map(|(aor, user)| as_json(topology, aor, user)).collect();
    output.say(table, &json!({ "version": directory.version, "users": users }))?;
    Ok(())
}

fn say_user(
    topology: &Topology,
    file: &DirectoryFile,
    aor: &AddressOfRecord,
    output: Output,
) -> Result<(), Trouble> {
    let user = known(file, aor)?;
    let mut page = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(page, "{name:13} {value}");
    };
    line("user", short(aor));
    line("primary", &describe(topology, aor, Some(&user.home)));
    line("backup", &describe(topology, aor, backup(topology, &user)));
    line("number", user.number.as_deref().unwrap_or("none"));
    line("may register", if user.enabled { "yes" } else { "no: disabled" });
    output.say(page, &as_json(topology, aor, &user))?;
    Ok(())
}

/// A pool with its site and its servers, in the order in which this user prefers them.
fn describe(topology: &Topology, aor: &AddressOfRecord, name: Option<&str>) -> String {
    let Some(name) = name else { return "none".to_owned() };
    match topology.pool(name) {
        Some(pool) => {
            let servers = preferred(topology, aor, name).join(", then ");
            format!("{} in {}, preferring {servers}", pool.name, pool.site)
        }
        None => format!("{name}, which is not in the topology: `rehome user move` homes the user elsewhere"),
    }
}

fn backup<'t>(topology: &'t Topology, user: &User) -> Option<&'t str> {
    topology.registrars(&user.home).nth(1).map(|pool| pool.name.as_str())
}

/// The servers of a pool as a user prefers them, first choice first.
fn preferred<'t>(topology: &'t Topology, aor: &AddressOfRecord, pool: &str) -> Vec<&'t str> {
    let order = topology.pool(pool).map(|pool| pool.preferred_order(aor.hash64()));
    order.into_iter().flatten().map(|server| server.name.as_str()).collect()
}

fn as_json(topology: &Topology, aor: &AddressOfRecord, user: &User) -> Value {
    let backup = backup(topology, user);
    json!({
        "user": short(aor),
        "primary": user.home.as_str(),
        "primary_servers": preferred(topology, aor, &user.home),
        "backup": backup,
        "backup_servers": backup.map(|backup| preferred(topology, aor, backup)),
        "number": user.number,
        "enabled": user.enabled,
    })
}

/// As people write it: without the scheme.
pub(super) fn short(aor: &AddressOfRecord) -> &str {
    aor.as_str().trim_start_matches("sip:")
}

fn telephone_number(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix('+').unwrap_or_default();
    if digits.is_empty() || digits.len() > 15 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("write a plus and up to 15 digits, as in +4989123".to_owned());
    }
    Ok(text.to_owned())
}

impl NewPassword {
    fn read(&self, user: &AddressOfRecord) -> Result<String, Trouble> {
        let read = match &self.password_file {
            Some(path) if path == Path::new("-") => {
                first_line(io::read_to_string(io::stdin()).context("reading standard input")?)
            }
            Some(path) => first_line(
                std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?,
            ),
            None if io::stdin().is_terminal() => ask(user)?,
            None => {
                return Err(Trouble::Usage(
                    "there is no terminal to ask for the password; use --password-file FILE, or - for standard input"
                        .to_owned(),
                ));
            }
        };
        if read.is_empty() {
            return Err(Trouble::Usage(
                "the password is empty; a user without one cannot register".to_owned(),
            ));
        }
        Ok(read)
    }
}

fn ask(user: &AddressOfRecord) -> Result<String, Trouble> {
    let once =
        rpassword::prompt_password(format!("New password of {}: ", short(user))).context("asking for it")?;
    let again = rpassword::prompt_password("Once more: ").context("asking for it")?;
    if once != again {
        return Err(Trouble::Usage("the two differ; nothing was changed".to_owned()));
    }
    Ok(once)
}

fn first_line(text: String) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
