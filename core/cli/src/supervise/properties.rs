//! What holds whatever happens, and in which order.

use proptest::prelude::*;

use super::*;

/// Something that a world does to a supervisor.
#[derive(Clone, Debug)]
enum Deed {
    /// So many milliseconds go by.
    Pass(u64),
    /// One of the processes that are there, by its place in their list, says that it is ready.
    Ready(usize),
    /// One ends.
    End(usize, bool),
    /// One has run many tasks.
    Tasks(usize),
    /// One has so much memory.
    Memory(usize, u64),
    Reload,
    Stop,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => (0..40_000u64).prop_map(Deed::Pass),
        8 => (0..8usize).prop_map(Deed::Ready),
        5 => (0..8usize, any::<bool>()).prop_map(|(which, well)| Deed::End(which, well)),
        2 => (0..8usize).prop_map(Deed::Tasks),
        2 => (0..8usize, 80..110u64).prop_map(|(which, memory)| Deed::Memory(which, memory)),
        1 => Just(Deed::Reload),
    ]
}

/// A supervisor, and what its world has seen of it.
struct World {
    supervisor: Supervisor,
    now: Duration,
    alive: Vec<ChildId>,
    told_to_leave: Vec<ChildId>,
    killed: Vec<ChildId>,
    ready: Vec<ChildId>,
    stops: u32,
    exits: Vec<u8>,
}

impl World {
    fn new(processes: usize, seed: u64) -> Self {
        let plan = Plan {
            processes,
            max_tasks: Some(10),
            max_memory: Some(100),
            grace: Duration::from_secs(30),
            backoff: Backoff::default(),
        };
        let mut world = Self {
            supervisor: Supervisor::new(plan, seed),
            now: Duration::ZERO,
            alive: Vec::new(),
            told_to_leave: Vec::new(),
            killed: Vec::new(),
            ready: Vec::new(),
            stops: 0,
            exits: Vec::new(),
        };
        world.step(Event::Tick);
        world
    }

    fn step(&mut self, event: Event) {
        for action in self.supervisor.step(self.now, event) {
            assert!(self.exits.is_empty(), "{action:?} after the end");
            match action {
                Action::Start(child) => {
                    assert_eq!(self.stops, 0, "{child:?} is started after a stop");
                    assert!(!self.alive.contains(&child));
                    self.alive.push(child);
                }
                Action::Terminate(child) => {
                    assert!(self.alive.contains(&child), "{child:?} is gone");
                    assert!(!self.told_to_leave.contains(&child), "{child:?} is told to leave again");
                    self.told_to_leave.push(child);
                }
                Action::Interrupt(child) => {
                    assert!(self.alive.contains(&child) && self.stops >= 2);
                }
                Action::Kill(child) => {
                    assert!(self.alive.contains(&child), "{child:?} is gone");
                    assert!(!self.killed.contains(&child), "{child:?} is killed again");
                    self.killed.push(child);
                }
                Action::Say(_) => {}
                Action::Exit(code) => {
                    assert!(self.alive.is_empty(), "the end comes before that of {:?}", self.alive);
                    self.exits.push(code);
                }
            }
        }
        self.check();
    }

    /// What holds at every moment.
    fn check(&self) {
        let supervisor = &self.supervisor;
        for place in 0..supervisor.places.len() {
            let starting = supervisor.of_place(place).filter(|(_, child)| child.is_starting()).count();
            let ready = supervisor.of_place(place).filter(|(_, child)| child.is_ready()).count();
            assert!(starting <= 1 && ready <= 1, "{starting} starting, {ready} ready in place {place}");
            assert!(
                supervisor.begun || place == 0 || starting + ready == 0,
                "place {place} is filled too early"
            );
        }
        if let Some(next) = supervisor.next_wake() {
            assert!(next > self.now, "what is due now has been done");
        }
        // Whoever is told to leave and is still there has a deadline, or has been killed.
        for child in self.told_to_leave.iter().filter(|child| self.alive.contains(child)) {
            assert!(self.killed.contains(child) || supervisor.next_wake().is_some());
        }
    }

    fn some(&self, which: usize) -> Option<ChildId> {
        (!self.alive.is_empty()).then(|| self.alive[which % self.alive.len()])
    }

    fn end(&mut self, child: ChildId, how: Ending) {
        self.alive.retain(|other| *other != child);
        self.step(Event::Ended { child, how });
    }

    fn make_ready(&mut self, child: ChildId) {
        if !self.ready.contains(&child) {
            self.ready.push(child);
            let handlers = BTreeSet::from(["a".to_owned()]);
            self.step(Event::Ready { child, handlers, store: "sqlite:x".into() });
        }
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        // As a loop around it would: at each moment that it has named.
        while let Some(next) = self.supervisor.next_wake().filter(|next| *next <= end) {
            self.now = next.max(self.now);
            self.step(Event::Tick);
        }
        self.now = end;
        self.step(Event::Tick);
    }

    fn act(&mut self, deed: &Deed) {
        match deed {
            Deed::Pass(millis) => self.pass(Duration::from_millis(*millis)),
            Deed::Ready(which) => {
                if let Some(child) = self.some(*which) {
                    self.make_ready(child);
                }
            }
            Deed::End(which, well) => {
                if let Some(child) = self.some(*which) {
                    self.end(child, if *well { Ending::Exited(0) } else { Ending::Signalled(11) });
                }
            }
            Deed::Tasks(which) => {
                if let Some(child) = self.some(*which) {
                    self.step(Event::Tasks { child, ended: 10 });
                }
            }
            Deed::Memory(which, bytes) => {
                if let Some(child) = self.some(*which) {
                    self.step(Event::Memory { child, bytes: *bytes });
                }
            }
            Deed::Reload => self.step(Event::Reload),
            Deed::Stop => {
                self.stops += 1;
                self.step(Event::Stop(15));
            }
        }
    }

    /// The world is kind from now on: who is started gets ready, who is told to leave or killed does so.
    fn be_kind(&mut self) {
        for _ in 0..200 {
            let leaving: Vec<ChildId> = self
                .alive
                .iter()
                .filter(|child| self.told_to_leave.contains(child) || self.killed.contains(child))
                .copied()
                .collect();
            let starting: Vec<ChildId> =
                self.alive.iter().filter(|child| !self.ready.contains(child)).copied().collect();
            for child in leaving {
                self.end(child, Ending::Exited(0));
            }
            for child in starting.into_iter().filter(|child| self.alive.contains(child)).collect::<Vec<_>>() {
                self.make_ready(child);
            }
            self.pass(Duration::from_secs(1));
        }
    }
}

proptest! {
    #[test]
    fn every_place_is_filled_again(
        processes in 1..5usize,
        seed in any::<u64>(),
        deeds in prop::collection::vec(deed(), 0..60),
    ) {
        let mut world = World::new(processes, seed);
        deeds.iter().for_each(|deed| world.act(deed));
        world.be_kind();
        if !world.supervisor.begun {
            prop_assert_eq!(world.exits.len(), 1, "the first could not start");
        } else {
            prop_assert!(world.exits.is_empty());
            prop_assert_eq!(world.alive.len(), processes, "each place has one process, and nobody is left over");
            prop_assert!(world.supervisor.children.values().all(Child::is_ready));
            prop_assert!(!world.supervisor.reloading);
            prop_assert!(world.supervisor.next_wake().is_none(), "then there is peace");
        }
    }

    #[test]
    fn every_stop_comes_to_an_end(
        processes in 1..5usize,
        seed in any::<u64>(),
        deeds in prop::collection::vec(deed(), 0..40),
        after in prop::collection::vec(prop_oneof![deed(), Just(Deed::Stop)], 0..10),
    ) {
        let mut world = World::new(processes, seed);
        deeds.iter().for_each(|deed| world.act(deed));
        world.act(&Deed::Stop);
        after.iter().for_each(|deed| world.act(deed));
        // Nobody listens: but for those who are killed, all stay.
        world.pass(Duration::from_secs(40));
        let staying = world.alive.iter().filter(|child| !world.killed.contains(child)).count();
        prop_assert_eq!(staying, 0, "whoever does not leave is killed");
        for child in world.alive.clone() {
            world.end(child, Ending::Signalled(9));
        }
        prop_assert_eq!(world.exits.len(), 1);
    }
}
