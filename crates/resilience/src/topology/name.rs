//! Names of pools, servers and sites: one type each, so that one cannot stand where another belongs.
//!
//! DNS names compare without regard to case (RFC 4343) and with or without the dot of the root, so both are
//! settled once, at birth. A name is cheap to clone and reads as a `&str`.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $Name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
        pub struct $Name(Arc<str>);

        impl $Name {
            /// Takes a name as written: lower-cased, without a final dot.
            pub fn new(name: &str) -> $Name {
                $Name(normal(name))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $Name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $Name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $Name {
            fn from(name: &str) -> $Name {
                $Name::new(name)
            }
        }

        impl From<String> for $Name {
            fn from(name: String) -> $Name {
                $Name::new(&name)
            }
        }

        impl PartialEq<str> for $Name {
            fn eq(&self, other: &str) -> bool {
                same(&self.0, other)
            }
        }

        impl PartialEq<&str> for $Name {
            fn eq(&self, other: &&str) -> bool {
                same(&self.0, other)
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }
    };
}

name! {
    /// A pool's name: the fully qualified domain name that its servers answer to.
    PoolName
}
name! {
    /// A server's own name, fully qualified. A pool of one server may share its name with it.
    ServerName
}
name! {
    /// A site's name; any label, not a DNS name.
    SiteName
}

/// Whether two names are the same name, however they are written.
pub(crate) fn same(a: &str, b: &str) -> bool {
    trimmed(a).eq_ignore_ascii_case(trimmed(b))
}

/// Whether `name` is `domain` or lies below it.
pub(crate) fn lies_in(name: &str, domain: &str) -> bool {
    let (name, domain) = (normal(name), normal(domain));
    match name.strip_suffix(&*domain) {
        Some("") => true,
        Some(head) => head.ends_with('.'),
        None => false,
    }
}

fn normal(name: &str) -> Arc<str> {
    trimmed(name).to_ascii_lowercase().into()
}

fn trimmed(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_name_however_it_is_written() {
        assert_eq!(PoolName::new("FE1.Example.test."), PoolName::new("fe1.example.test"));
        assert_eq!(PoolName::new("fe1.example.test"), "FE1.example.TEST");
    }

    #[test]
    fn a_name_lies_in_its_domain_only_at_a_dot() {
        assert!(lies_in("fe1.example.test", "example.test"));
        assert!(lies_in("Example.test.", "example.test"));
        assert!(!lies_in("badexample.test", "example.test"));
        assert!(!lies_in("example.test", "fe1.example.test"));
    }
}
