//! How many strangers may be at the door: sessions that nothing has authorised yet, in all and by address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// Counts the sessions that nothing has authorised yet.
#[derive(Debug)]
pub struct Gate {
    total: usize,
    per_address: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One stranger's place. Dropping it, because the session is authorised or over, frees the place.
#[derive(Debug)]
pub struct Admission {
    gate: Arc<Gate>,
    address: IpAddr,
}

impl Gate {
    /// Places for so many sessions in all, and for so many from one address.
    #[must_use]
    pub fn new(total: usize, per_address: usize) -> Arc<Self> {
        Arc::new(Self { total, per_address, inside: Mutex::default() })
    }

    /// A place for a session from that address, `None` when there is none. IPv4 addresses that come as IPv6 ones
    /// count as what they are.
    #[must_use]
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Admission> {
        let address = address.to_canonical();
        let mut inside = self.inside.lock();
        let here = inside.by_address.get(&address).copied().unwrap_or_default();
        if inside.total >= self.total || here >= self.per_address {
            return None;
        }
        inside.total = inside.total.saturating_add(1);
        inside.by_address.insert(address, here.saturating_add(1));
        drop(inside);
        Some(Admission { gate: Arc::clone(self), address })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut inside = self.gate.inside.lock();
        inside.total = inside.total.saturating_sub(1);
        match inside.by_address.get_mut(&self.address) {
            Some(here) if *here > 1 => *here = here.saturating_sub(1),
            _ => _ = inside.by_address.remove(&self.address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_in_all_and_by_address_and_come_back() {
        let gate = Gate::new(3, 2);
        let (a, b): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "::ffff:192.0.2.1".parse().unwrap());
        let c: IpAddr = "2001:db8::1".parse().unwrap();
        let first = gate.enter(a).unwrap();
        let _second = gate.enter(b).unwrap();
        assert!(gate.enter(a).is_none(), "the same address in two forms");
        let third = gate.enter(c).unwrap();
        assert!(gate.enter(c).is_none(), "the total");
        drop(third);
        drop(first);
        assert!(gate.enter(a).is_some());
        drop(_second);
        assert!(gate.inside.lock().by_address.is_empty());
    }
}
