//! Datagrams: what sending one of 1 200 bytes costs.
//!
//! **Question.** How much CPU time does a datagram cost that goes out in a [`Burst`], beside one `send_to` each?
//!
//! **Hypothesis.** Most of a `send_to` is the system call and the walk through the IP stack, which a burst does once for
//! as many as the kernel cuts by itself; what is left is the copy into the burst and out of it.
//!
//! **Decision rule.** ≤ 0.55 µs for each datagram in bursts of 54, the most that fit; the floor is `send_to` in the same
//! run. Bursts of four are what a picture at 1 Mbit/s makes, and are shown beside it.
//!
//! Over loopback, to a socket that another thread empties: the sender pays for the receiver's way through the stack too.

use std::net::SocketAddr;
use std::time::Duration;

use arcly_benches::{Bench, Goal, Unit, cpu_time};
use arcly_core::egress::udp::{Burst, UdpSocket};
use tokio::runtime::{Builder, Runtime};

const DATAGRAM: [u8; 1_200] = [7; 1_200];
const TARGET: f64 = 550.0;
/// Datagrams of one iteration: a multiple of each size of burst.
const COUNT: usize = 108;

fn main() {
    let mut bench = Bench::new("udp");
    let runtime = runtime();
    let to = drained();
    let floor = send_to(&mut bench, to);
    bursts(&mut bench, &runtime, to, 4, Goal { target: floor, ..Goal::NONE }.over(floor, "send_to"));
    bursts(&mut bench, &runtime, to, 54, Goal::target(TARGET).over(floor, "send_to"));
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_io().build().expect("a runtime")
}

fn bound() -> std::net::UdpSocket {
    std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket")
}

/// The address of a socket that is emptied until the program ends.
fn drained() -> SocketAddr {
    let socket = bound();
    let address = socket.local_addr().expect("an address");
    std::thread::spawn(move || {
        runtime().block_on(async {
            let socket = UdpSocket::new(socket).expect("a socket");
            let mut buffer = vec![0; 1 << 16];
            while socket.recv(&mut buffer, |_, _| {}).await.is_ok() {}
        });
    });
    address
}

fn send_to(bench: &mut Bench, to: SocketAddr) -> Option<f64> {
    let socket = bound();
    bench.case("send_to", Unit::NanosPer("datagram", COUNT as u64), Goal::NONE, |iters| {
        let before = cpu_time();
        for _ in 0..iters * COUNT as u64 {
            socket.send_to(&DATAGRAM, to).expect("loopback takes it");
        }
        cpu_time().saturating_sub(before)
    })
}

fn bursts(bench: &mut Bench, runtime: &Runtime, to: SocketAddr, size: usize, goal: Goal) {
    let case = format!("bursts of {size}");
    if !bench.wants(&case) {
        return;
    }
    let socket = runtime.block_on(async { UdpSocket::new(bound()) }).expect("a socket");
    bench.case(&case, Unit::NanosPer("datagram", COUNT as u64), goal, |iters| {
        runtime.block_on(send(&socket, to, size, iters))
    });
}

async fn send(socket: &UdpSocket, to: SocketAddr, size: usize, iters: u64) -> Duration {
    let mut burst = Burst::default();
    let before = cpu_time();
    for _ in 0..iters {
        for _ in 0..COUNT / size {
            (0..size).for_each(|_| assert!(burst.push(&DATAGRAM), "{size} fit"));
            socket.send(to, &mut burst).await.expect("loopback takes it");
        }
    }
    cpu_time().saturating_sub(before)
}
