//! Tables of a configuration file: one declaration gives the type, its parser and its printed example.
//!
//! [`table!`] declares a struct whose fields are the keys of a TOML table. From the same lines come the
//! parser, the list of known keys (unknown ones are refused with the nearest known one), and the example
//! that `rehome config example` prints, its comments being the doc comments. So the three cannot differ.
//!
//! Reading never stops at the first mistake: each is noted as a [`Mistake`] with line, key and cure, and
//! whoever wrote the file can mend all of them at once.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::duration;

/// Something wrong with a file: where, what, and how to mend it.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub(crate) struct Mistake {
    /// Whether the file can be used nevertheless.
    pub(crate) severity: Severity,
    /// The file, as the operator named it.
    pub(crate) file: String,
    /// The line, counted from one.
    pub(crate) line: usize,
    /// The key, as a path: `pool[1].backup`. Empty if it is about the file as a whole.
    pub(crate) key: String,
    /// What is wrong.
    pub(crate) what: String,
    /// What to do about it.
    pub(crate) cure: String,
}

/// How bad a mistake is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// The file cannot be used.
    Error,
    /// It can be used, but somebody will be sorry.
    Warning,
}

impl Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}: {severity}: ", self.file, self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.what, self.cure)
    }
}

//------------ Reading ---------------------------------------------------------------------------------------

/// A file while it is read, and the mistakes noticed so far.
pub(crate) struct Reading<'t> {
    file: &'t str,
    text: &'t str,
    tree: DeTable<'t>,
    mistakes: Vec<Mistake>,
}

/// Where in the file we are: a key path for the reader, a place in the text for the line number.
#[derive(Clone)]
pub(crate) struct Spot {
    path: String,
    span: Range<usize>,
}

impl Spot {
    fn key(&self, key: &str, span: Range<usize>) -> Self {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self { path, span }
    }

    fn element(&self, index: usize, span: Range<usize>) -> Self {
        Self { path: format!("{}[{index}]", self.path), span }
    }
}

impl<'t> Reading<'t> {
    /// Takes the text apart; what TOML itself objects to is noted, and what can be understood is kept.
    pub(crate) fn new(file: &'t str, text: &'t str) -> Self {
        let (tree, errors) = DeTable::parse_recoverable(text);
        let mut reading = Self { file, text, tree: tree.into_inner(), mistakes: Vec::new() };
        for error in errors {
            let spot = Spot { path: String::new(), span: error.span().unwrap_or(0..0) };
            let what = format!("this is not TOML: {}", error.message().replace('\n', ", "));
            reading.error(&spot, what, "`rehome config example` shows the form of every line");
        }
        reading
    }

    /// Reads the whole file as one table; `None` if a mistake makes that impossible.
    pub(crate) fn read<T: Table>(&mut self) -> Option<T> {
        // A line that is not TOML hides others; their absence would be reported as further mistakes.
        if self.is_unusable() {
            return None;
        }
        let tree = std::mem::take(&mut self.tree);
        let table = T::read(&mut Fields {
            table: &tree,
            known: BTreeSet::new(),
            spot: Spot { path: String::new(), span: 0..0 },
            reading: self,
        });
        self.tree = tree;
        table
    }

    /// Notes an error.
    pub(crate) fn error(&mut self, spot: &Spot, what: impl Into<String>, cure: impl Into<String>) {
        self.note(Severity::Error, spot, what.into(), cure.into());
    }

    /// Notes what somebody else found out about the key at `path`; if that key is not there, about the
    /// nearest table around it.
    pub(crate) fn note_at(&mut self, severity: Severity, path: &str, what: String, cure: String) {
        let spot = Spot { path: path.to_owned(), span: self.span_of(path) };
        self.note(severity, &spot, what, cure);
    }

    fn note(&mut self, severity: Severity, spot: &Spot, what: String, cure: String) {
        let before = self.text.get(..spot.span.start).unwrap_or(self.text);
        let line = 1 + before.matches('\n').count();
        self.mistakes.push(Mistake {
            severity,
            file: self.file.to_owned(),
            line,
            key: spot.path.clone(),
            what,
            cure,
        });
    }

    /// Whether an error has been noted, so that what was read must not be used.
    pub(crate) fn is_unusable(&self) -> bool {
        self.mistakes.iter().any(|mistake| mistake.severity == Severity::Error)
    }

    /// All mistakes, in the order of their lines.
    pub(crate) fn into_mistakes(mut self) -> Vec<Mistake> {
        self.mistakes.sort_by(|a, b| (a.line, a.severity, &a.key).cmp(&(b.line, b.severity, &b.key)));
        self.mistakes.dedup();
        self.mistakes
    }

    fn span_of(&self, path: &str) -> Range<usize> {
        let mut deepest = 0..0;
        let mut steps = path.split(['.', '[']).map(|step| step.trim_end_matches(']')).peekable();
        let Some((key, first)) = steps.next().and_then(|step| self.tree.get_key_value(step)) else {
            return deepest;
        };
        deepest = if first.get_ref().is_table() { first.span() } else { key.span() };
        let mut value = first.get_ref();
        for step in steps {
            let below = match value {
                DeValue::Table(table) => {
                    let Some((key, below)) = table.get_key_value(step) else { break };
                    deepest = key.span();
                    below
                }
                DeValue::Array(array) => {
                    let Some(below) = step.parse().ok().and_then(|index: usize| array.get(index)) else {
                        break;
                    };
                    deepest = below.span();
                    below
                }
                _ => break,
            };
            value = below.get_ref();
        }
        deepest
    }
}

/// The keys of one table while a `Table` takes what it knows.
pub(crate) struct Fields<'f, 'v, 't> {
    table: &'f DeTable<'v>,
    known: BTreeSet<&'static str>,
    spot: Spot,
    reading: &'f mut Reading<'t>,
}

impl Fields<'_, '_, '_> {
    /// Takes one key; its documentation is the cure if it is missing.
    pub(crate) fn take<V: Value>(&mut self, key: &'static str, doc: &str) -> Option<V> {
        self.known.insert(key);
        match self.table.get_key_value(key) {
            Some((name, value)) => {
                let span =
                    if matches!(value.get_ref(), DeValue::Table(_)) { value.span() } else { name.span() };
                V::read(value.get_ref(), &self.spot.key(key, span), self.reading)
            }
            None => {
                let absent = V::absent();
                if absent.is_none() {
                    let spot = self.spot.clone();
                    self.reading.error(
                        &spot,
                        format!("`{key}` is missing"),
                        format!("add `{key} = …`: {}", first_line(doc)),
                    );
                }
                absent
            }
        }
    }

    /// Refuses every key that was not taken.
    pub(crate) fn refuse_others(&mut self) {
        for (name, value) in self.table {
            let key = name.get_ref().as_ref();
            if self.known.contains(key) {
                continue;
            }
            let cure = match nearest(key, self.known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    let known: Vec<&str> = self.known.iter().copied().collect();
                    format!("known here: {}", known.join(", "))
                }
            };
            let span = if name.span().is_empty() { value.span() } else { name.span() };
            let spot = self.spot.key(key, span);
            self.reading.error(&spot, "unknown key", cure);
        }
    }
}

/// The candidate closest to what was written, if any is close enough to have been meant.
pub(crate) fn nearest<'c>(written: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let (distance, near) = candidates
        .map(|candidate| (edits(written, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + written.chars().count() / 3).then_some(near)
}

/// How many letters must be put in, taken out or changed to turn one word into the other (Levenshtein).
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let cost = usize::from(a != *b);
            let cheapest = (diagonal + cost).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = cheapest;
        }
    }
    row[to.len()]
}

/// The first line of a documentation as the end of a sentence.
fn first_line(doc: &str) -> String {
    let line = doc.trim().lines().next().unwrap_or_default().trim().trim_end_matches('.');
    let mut chars = line.chars();
    match chars.next() {
        // "Fully qualified" goes on in small letters, "SRV record" does not.
        Some(first) if chars.clone().next().is_some_and(char::is_lowercase) => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => line.to_owned(),
    }
}

//------------ Table and Value -------------------------------------------------------------------------------

/// A table of known keys; [`table!`] implements it.
pub(crate) trait Table: Sized {
    /// What the table is for.
    const ABOUT: &'static str;

    /// Takes the keys; `None` if a mistake was noted that leaves no value to give.
    fn read(fields: &mut Fields<'_, '_, '_>) -> Option<Self>;

    /// The same as text: every key with its documentation, then the tables below it.
    fn write(&self, page: &mut Page);
}

/// What can stand behind a key.
pub(crate) trait Value: Sized {
    /// Reads the value, or notes why it cannot be.
    fn read(value: &DeValue<'_>, spot: &Spot, reading: &mut Reading<'_>) -> Option<Self>;

    /// What it means that the key is not there; `None` if it must be.
    fn absent() -> Option<Self> {
        None
    }

    /// How it is written.
    fn shape(&self) -> Shape<'_>;
}

/// How a value is written.
pub(crate) enum Shape<'v> {
    /// Behind the key, on its line.
    Inline(String),
    /// Not at all.
    Absent,
    /// As tables of their own.
    Tables(Vec<&'v dyn WriteTable>),
    /// As one table of its own.
    Table(&'v dyn WriteTable),
}

/// A table that can be written without knowing which it is.
pub(crate) trait WriteTable {
    /// What the table is for.
    fn about(&self) -> &'static str;
    /// See [`Table::write`].
    fn write(&self, page: &mut Page);
}

impl<T: Table> WriteTable for T {
    fn about(&self) -> &'static str {
        T::ABOUT
    }

    fn write(&self, page: &mut Page) {
        Table::write(self, page);
    }
}

impl<T: Table> Value for T {
    fn read(value: &DeValue<'_>, spot: &Spot, reading: &mut Reading<'_>) -> Option<Self> {
        let Some(table) = value.as_table() else {
            let cure = format!("write it as a table: [{}]", spot.path);
            reading.error(spot, format!("is {}, not a table", kind(value)), cure);
            return None;
        };
        T::read(&mut Fields { table, known: BTreeSet::new(), spot: spot.clone(), reading })
    }

    fn shape(&self) -> Shape<'_> {
        Shape::Table(self)
    }
}

impl<V: Value> Value for Option<V> {
    fn read(value: &DeValue<'_>, spot: &Spot, reading: &mut Reading<'_>) -> Option<Self> {
        V::read(value, spot, reading).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn shape(&self) -> Shape<'_> {
        self.as_ref().map_or(Shape::Absent, V::shape)
    }
}

impl<V: Value> Value for Vec<V> {
    fn read(value: &DeValue<'_>, spot: &Spot, reading: &mut Reading<'_>) -> Option<Self> {
        let Some(array) = value.as_array() else {
            let cure = match value {
                DeValue::Table(_) => format!("there may be several: write each under [[{}]]", spot.path),
                _ => "write it in square brackets".to_owned(),
            };
            reading.error(spot, format!("is {}, not a list", kind(value)), cure);
            return None;
        };
        let mut all = Some(Vec::new());
        for (index, element) in array.iter().enumerate() {
            let element_spot = spot.element(index, element.span());
            match (V::read(element.get_ref(), &element_spot, reading), &mut all) {
                (Some(element), Some(all)) => all.push(element),
                (Some(_), None) => {}
                (None, all) => *all = None,
            }
        }
        all
    }

    fn absent() -> Option<Self> {
        Some(Vec::new())
    }

    fn shape(&self) -> Shape<'_> {
        let mut tables = Vec::new();
        let mut words = Vec::new();
        for element in self {
            match element.shape() {
                Shape::Table(table) => tables.push(table),
                Shape::Inline(word) => words.push(word),
                Shape::Absent | Shape::Tables(_) => {}
            }
        }
        match (tables.is_empty(), words.is_empty()) {
            (true, true) => Shape::Absent,
            (true, false) => Shape::Inline(format!("[{}]", words.join(", "))),
            (false, _) => Shape::Tables(tables),
        }
    }
}

/// What a reader of the file would call this value.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A value that is written as a text and understood by a function that says what it expected.
fn read_text<V>(
    value: &DeValue<'_>,
    spot: &Spot,
    reading: &mut Reading<'_>,
    example: &str,
    understand: impl FnOnce(&str) -> Result<V, String>,
) -> Option<V> {
    let Some(text) = value.as_str() else {
        reading.error(
            spot,
            format!("is {}, not a text", kind(value)),
            format!("write it in quotes, as in {example}"),
        );
        return None;
    };
    match understand(text) {
        Ok(value) => Some(value),
        Err(what) => {
            reading.error(spot, what, format!("write it as in {example}"));
            None
        }
    }
}

impl Value for String {
    fn read(value: &DeValue<'_>, spot: &Spot, reading: &mut Reading<'_>) -> Option<Self> {
        read_text(value, spot, reading, "\"fe1.example.test\"", |text| {
            if text.trim().is_empty() { Err("is empty".to_owned()) } else { Ok(text.to_owned()) }
        })
    }

    fn shape(&self) -> Shape<'_> {
        Shape::Inline(quoted(self))
    }
}

impl Value for PathBuf {
    fn read(value: &DeValue<'_>, spot: &Spot, reading: &mut Reading<'_>) -> Option<Self> {
        read_text(value, spot, reading, "\"/etc/rehome/topology.toml\"", |text| {
            if text.trim().is_empty() { Err("is empty".to_owned()) } else { Ok(text.into()) }
        })
    }

    fn shape(&self) -> Shape<'_> {
        Shape::Inline(quoted(&self.display().to_string()))
    }
}

impl Value for Duration {
    fn read(value: &DeValue<'_>, spot: &Spot, reading: &mut Reading<'_>) -> Option<Self> {
        if let DeValue::Integer(number) = value {
            let what = format!("{} what? a duration needs a unit", number.as_str());
            reading.error(spot, what, format!("write \"{}s\" if seconds were meant", number.as_str()));
            return None;
        }
        read_text(value, spot, reading, "\"30s\", \"500ms\" or \"1m 30s\"", duration::parse)
    }

    fn shape(&self) -> Shape<'_> {
        Shape::Inline(quoted(&duration::print(*self)))
    }
}

impl Value for IpAddr {
    fn read(value: &DeValue<'_>, spot: &Spot, reading: &mut Reading<'_>) -> Option<Self> {
        read_text(value, spot, reading, "\"192.0.2.1\" or \"2001:db8::1\"", |text| {
            text.parse().map_err(|_| format!("\"{text}\" is not an IP address"))
        })
    }

    fn shape(&self) -> Shape<'_> {
        Shape::Inline(quoted(&self.to_string()))
    }
}

impl Value for SocketAddr {
    fn read(value: &DeValue<'_>, spot: &Spot, reading: &mut Reading<'_>) -> Option<Self> {
        read_text(value, spot, reading, "\"127.0.0.1:8061\" or \"[::1]:8061\"", |text| {
            text.parse().map_err(|_| format!("\"{text}\" is not an address with a port"))
        })
    }

    fn shape(&self) -> Shape<'_> {
        Shape::Inline(quoted(&self.to_string()))
    }
}

impl Value for bool {
    fn read(value: &DeValue<'_>, spot: &Spot, reading: &mut Reading<'_>) -> Option<Self> {
        let truth = value.as_bool();
        if truth.is_none() {
            reading.error(
                spot,
                format!("is {}, not true or false", kind(value)),
                "write true or false, without quotes",
            );
        }
        truth
    }

    fn shape(&self) -> Shape<'_> {
        Shape::Inline(self.to_string())
    }
}

/// Numbers, each with its own limits.
macro_rules! number {
    ($($type:ty),+) => { $(
        impl Value for $type {
            fn read(value: &DeValue<'_>, spot: &Spot, reading: &mut Reading<'_>) -> Option<Self> {
                let Some(number) = value.as_integer() else {
                    let what = format!("is {}, not a whole number", kind(value));
                    reading.error(spot, what, "write digits without quotes, as in 5061");
                    return None;
                };
                let understood = <$type>::from_str_radix(number.as_str(), number.radix()).ok();
                if understood.is_none() {
                    let what = format!("{} is out of range", number.as_str());
                    reading.error(spot, what, format!("use a number from 0 to {}", <$type>::MAX));
                }
                understood
            }

            fn shape(&self) -> Shape<'_> {
                Shape::Inline(self.to_string())
            }
        }
    )+ };
}

number!(u16, u32, u64);

/// One of a few words.
pub(crate) trait Choice: Copy + PartialEq + 'static {
    /// Every word with what it means.
    const CHOICES: &'static [(&'static str, Self)];
}

/// Reads a [`Choice`]; called by the `Value` of each, since a type of another crate cannot get it for free.
pub(crate) fn read_choice<C: Choice>(
    value: &DeValue<'_>,
    spot: &Spot,
    reading: &mut Reading<'_>,
) -> Option<C> {
    let words = || C::CHOICES.iter().map(|(word, _)| *word);
    let all = words().map(quoted).collect::<Vec<_>>().join(" or ");
    let Some(written) = value.as_str() else {
        reading.error(spot, format!("is {}, not a text", kind(value)), format!("write {all}"));
        return None;
    };
    let found = C::CHOICES.iter().find(|(word, _)| *word == written).map(|(_, choice)| *choice);
    if found.is_none() {
        let cure = match nearest(written, words()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("write {all}"),
        };
        reading.error(spot, format!("\"{written}\" is not one of {all}"), cure);
    }
    found
}

/// Writes a [`Choice`].
pub(crate) fn choice_shape<C: Choice>(choice: C) -> Shape<'static> {
    let word = C::CHOICES.iter().find(|(_, other)| *other == choice).map_or("", |(word, _)| *word);
    Shape::Inline(quoted(word))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

//------------ Page ------------------------------------------------------------------------------------------

/// An example file while it is written: the first table of a kind is explained, the others speak for themselves.
#[derive(Default)]
pub(crate) struct Page {
    text: String,
    /// Header of the table being written, without brackets; empty at the top of the file.
    path: String,
    /// Kinds of table already explained, by what they are about.
    explained: BTreeSet<&'static str>,
    explaining: bool,
    /// Lines of keys not yet aligned: what is written, and the comment behind it.
    pending: Vec<(String, String)>,
}

/// Writes a whole file.
pub(crate) fn write<T: Table>(table: &T) -> String {
    let mut page = Page { explaining: true, ..Page::default() };
    page.comment(T::ABOUT);
    page.text.push('\n');
    table.write(&mut page);
    page.align();
    page.text
}

impl Page {
    /// Writes one key, or the tables behind it; an absent one is shown as a comment with what it would be.
    pub(crate) fn field(&mut self, key: &str, doc: &'static str, value: &impl Value, shown: Option<&str>) {
        match value.shape() {
            Shape::Inline(text) => self.key(format!("{key} = {text}"), doc),
            Shape::Absent => {
                if let Some(shown) = shown.filter(|_| self.explaining) {
                    self.key(format!("# {key} = {shown}"), doc);
                }
            }
            Shape::Table(table) => self.table(key, table, false),
            Shape::Tables(tables) => {
                for table in tables {
                    self.table(key, table, true);
                }
            }
        }
    }

    fn key(&mut self, line: String, doc: &'static str) {
        let doc: Vec<&str> = doc.trim().lines().map(str::trim).collect();
        match doc.as_slice() {
            _ if !self.explaining => self.pending.push((line, String::new())),
            [one] if one.len() <= 70 => self.pending.push((line, (*one).to_owned())),
            lines => {
                self.align();
                self.comment(&lines.join("\n"));
                self.pending.push((line, String::new()));
            }
        }
    }

    fn table(&mut self, key: &str, table: &dyn WriteTable, one_of_many: bool) {
        self.align();
        let outer = self.path.clone();
        let was_explaining = self.explaining;
        self.path = if outer.is_empty() { key.to_owned() } else { format!("{outer}.{key}") };
        self.explaining = self.explained.insert(table.about());
        self.text.push('\n');
        if self.explaining {
            self.comment(table.about());
        }
        let (open, close) = if one_of_many { ("[[", "]]") } else { ("[", "]") };
        let _ = writeln!(self.text, "{open}{}{close}", self.path);
        table.write(self);
        self.align();
        self.path = outer;
        self.explaining = was_explaining;
    }

    fn comment(&mut self, text: &str) {
        for line in text.trim().lines() {
            let _ = writeln!(self.text, "{}", format!("# {}", line.trim()).trim_end());
        }
    }

    /// Writes the keys held back, their comments one below the other.
    fn align(&mut self) {
        let widest = self.pending.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
        for (line, comment) in std::mem::take(&mut self.pending) {
            if comment.is_empty() {
                self.text.push_str(&line);
            } else {
                let _ = write!(self.text, "{line:widest$}  # {comment}");
            }
            self.text.push('\n');
        }
    }
}

//------------ table! ----------------------------------------------------------------------------------------

/// Declares a table: `name: Type` for each key, `= "…"` for what an absent one is shown as.
macro_rules! table {
    (
        $(#[doc = $about:literal])+
        $visibility:vis struct $name:ident {
            $( $(#[doc = $doc:literal])+ $key:ident : $type:ty $(= $shown:literal)? ,)*
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        $visibility struct $name {
            $( $(#[doc = $doc])+ pub(crate) $key: $type, )*
        }

        impl $crate::config::document::Table for $name {
            const ABOUT: &'static str = concat!($($about, "\n"),+);

            fn read(fields: &mut $crate::config::document::Fields<'_, '_, '_>) -> Option<Self> {
                // All keys are taken before any is missed, so that every mistake is noted.
                $( let $key: Option<$type> = fields.take(stringify!($key), concat!($($doc, "\n"),+)); )*
                fields.refuse_others();
                Some(Self { $( $key: $key?, )* })
            }

            fn write(&self, page: &mut $crate::config::document::Page) {
                $( page.field(
                    stringify!($key),
                    concat!($($doc, "\n"),+),
                    &self.$key,
                    None $(.or(Some($shown)))?,
                ); )*
            }
        }
    };
}

pub(crate) use table;
