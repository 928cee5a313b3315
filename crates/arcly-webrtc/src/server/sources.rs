//! Whose datagrams from an address are.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use smallvec::SmallVec;

/// Those who have an address, the one who came last at the end. Nearly always that is one.
pub(super) type Owners<T> = SmallVec<[Arc<T>; 1]>;

/// So many may have one address: a translator that gives a port to somebody else, a peer that begins anew where it was. Behind them only the
/// place of the last can be had.
const MAX_OWNERS: usize = 8;

/// Which addresses have shown whose passwords.
///
/// A check can be sent in the name of any address: by it nobody takes an address away from somebody else. What comes from an address of
/// several goes to each of them, and only one has the key.
#[derive(Debug)]
pub(super) struct Sources<T> {
    owners: HashMap<SocketAddr, Owners<T>>,
}

impl<T> Default for Sources<T> {
    fn default() -> Self {
        Self { owners: HashMap::new() }
    }
}

impl<T> Sources<T> {
    /// A check from `address` knew the password of `owner`.
    pub(super) fn claim(&mut self, address: SocketAddr, owner: &Arc<T>) {
        let owners = self.owners.entry(address).or_default();
        owners.retain(|known| !Arc::ptr_eq(known, owner));
        owners.truncate(MAX_OWNERS - 1);
        owners.push(Arc::clone(owner));
    }

    /// `owner` is not there any more.
    pub(super) fn release(&mut self, address: SocketAddr, owner: &T) {
        let Some(owners) = self.owners.get_mut(&address) else { return };
        owners.retain(|known| !core::ptr::eq(Arc::as_ptr(known), owner));
        if owners.is_empty() {
            self.owners.remove(&address);
        }
    }

    /// Who is to look at what comes from there: all of them, or, of what somebody begins with who has no key yet, the last.
    pub(super) fn of(&self, address: SocketAddr, begins: bool) -> Owners<T> {
        let owners = self.owners.get(&address).map(SmallVec::as_slice).unwrap_or_default();
        let from = if begins { owners.len().saturating_sub(1) } else { 0 };
        owners.iter().skip(from).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(owners: &Owners<&'static str>) -> Vec<&'static str> {
        owners.iter().map(|owner| **owner).collect()
    }

    #[test]
    fn nobody_takes_an_address_away_from_somebody_else() {
        let at: SocketAddr = "192.0.2.1:5000".parse().unwrap();
        let (camera, thief) = (Arc::new("camera"), Arc::new("thief"));
        let mut sources = Sources::default();
        sources.claim(at, &camera);
        assert_eq!(names(&sources.of(at, true)), ["camera"]);
        sources.claim(at, &thief);
        assert_eq!(names(&sources.of(at, false)), ["camera", "thief"]);
        assert_eq!(names(&sources.of(at, true)), ["thief"], "who begins anew came last");
        // What was claimed again is claimed once.
        sources.claim(at, &camera);
        assert_eq!(names(&sources.of(at, false)), ["thief", "camera"]);
        sources.release(at, &thief);
        sources.release("192.0.2.2:5000".parse().unwrap(), &camera);
        assert_eq!(names(&sources.of(at, true)), ["camera"]);
        sources.release(at, &camera);
        assert!(sources.of(at, false).is_empty() && sources.owners.is_empty());
    }

    #[test]
    fn an_address_has_so_many_owners_and_who_was_there_stays() {
        let at: SocketAddr = "192.0.2.1:5000".parse().unwrap();
        let mut sources = Sources::default();
        let owners: Vec<Arc<usize>> = (0..20).map(Arc::new).collect();
        owners.iter().for_each(|owner| sources.claim(at, owner));
        let numbers: Vec<usize> = sources.of(at, false).iter().map(|owner| **owner).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 19]);
    }
}
