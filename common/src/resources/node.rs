//! What a node has, what is free of it, and how requests take and give back.

use std::collections::BTreeMap;

use super::{CPU, GPU, Quantity, ResourceRequest, ResourceSet};

/// One GPU of a node, real or logical.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuDevice {
    /// Position in the node's list, as in `CUDA_VISIBLE_DEVICES`.
    pub id: u32,
    /// Share that is not allocated.
    pub free: Quantity,
    /// Device memory; 0 for a logical GPU, of which requests by memory cannot be served.
    pub memory_total_bytes: u64,
}

impl GpuDevice {
    /// A device that is wholly free.
    pub const fn new(id: u32, memory_total_bytes: u64) -> Self {
        Self {
            id,
            free: Quantity::ONE,
            memory_total_bytes,
        }
    }
}

/// Resources of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeResources {
    /// Everything but GPUs.
    total: ResourceSet,
    /// What is free of `total`.
    available: ResourceSet,
    gpus: Vec<GpuDevice>,
    labels: BTreeMap<String, String>,
}

/// What one request holds of a node. Given back with [`NodeResources::release`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allocation {
    /// Everything but GPUs.
    resources: ResourceSet,
    gpu_ids: Vec<u32>,
    gpu_share: Quantity,
    is_cpu_lent: bool,
}

impl Allocation {
    /// Devices held.
    pub fn gpu_ids(&self) -> &[u32] {
        &self.gpu_ids
    }

    /// Share held of each device.
    pub fn gpu_share(&self) -> Quantity {
        self.gpu_share
    }

    /// Everything held but GPUs.
    pub fn resources(&self) -> &ResourceSet {
        &self.resources
    }

    /// Whether the CPUs are given back because the holder waits (see [`NodeResources::block`]).
    pub fn is_cpu_lent(&self) -> bool {
        self.is_cpu_lent
    }
}

impl NodeResources {
    /// A node on which everything is free. A quantity of "GPU" in `total` that `gpus` does not account for becomes
    /// logical GPUs.
    pub fn new(
        total: ResourceSet,
        mut gpus: Vec<GpuDevice>,
        labels: BTreeMap<String, String>,
    ) -> Self {
        let wanted = usize::try_from(total.get(GPU).whole()).unwrap_or(0);
        for id in gpus.len()..wanted {
            gpus.push(GpuDevice::new(u32::try_from(id).unwrap_or(u32::MAX), 0));
        }
        let total = total.without(GPU);
        Self {
            available: total.clone(),
            total,
            gpus,
            labels,
        }
    }

    /// A node as another process reports it: its totals (with "GPU"), what is free, and the free share of each GPU.
    pub fn reported(
        total: ResourceSet,
        available: ResourceSet,
        gpus: Vec<GpuDevice>,
        labels: BTreeMap<String, String>,
    ) -> Self {
        let mut node = Self::new(total, gpus, labels);
        node.available = available.without(GPU);
        node
    }

    /// Everything the node has, GPUs included.
    pub fn total(&self) -> ResourceSet {
        let count = i64::try_from(self.gpus.len()).unwrap_or(i64::MAX);
        self.total.clone().with(GPU, Quantity::from_whole(count))
    }

    /// Everything that is free, GPUs included (as the sum of the free shares). CPU may be negative (`RES-1`).
    pub fn available(&self) -> ResourceSet {
        self.available
            .clone()
            .with(GPU, self.gpus.iter().map(|gpu| gpu.free).sum())
    }

    /// The devices, by position.
    pub fn gpus(&self) -> &[GpuDevice] {
        &self.gpus
    }

    /// Labels of the node.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// Whether the node has GPUs at all.
    pub fn has_gpus(&self) -> bool {
        !self.gpus.is_empty()
    }

    /// Whether the request fits into what is free now.
    pub fn fits(&self, request: &ResourceRequest) -> bool {
        let has =
            |(name, wanted): (&str, Quantity)| name == GPU || wanted <= self.available.get(name);
        request.resources().iter().all(has) && self.pick_gpus(request).is_some()
    }

    /// Share in use of the resource that is used most.
    pub fn utilisation(&self) -> Quantity {
        let share = |total: Quantity, free: Quantity| {
            let used = i128::from((total - free).units()) * i128::from(Quantity::SCALE);
            let share = used / i128::from(total.units().max(1));
            Quantity::from_units(i64::try_from(share).unwrap_or(i64::MAX))
        };
        let named = self.total.iter();
        let named = named.map(|(name, total)| share(total, self.available.get(name)));
        let count = Quantity::from_whole(i64::try_from(self.gpus.len()).unwrap_or(i64::MAX));
        let gpus = (!self.gpus.is_empty())
            .then(|| share(count, self.gpus.iter().map(|gpu| gpu.free).sum()));
        named.chain(gpus).max().unwrap_or_default()
    }

    /// Whether the request would fit if all of the node were free.
    pub fn could_ever_fit(&self, request: &ResourceRequest) -> bool {
        self.emptied().fits(request)
    }

    /// This node with everything free.
    #[must_use]
    pub fn emptied(&self) -> Self {
        let mut node = self.clone();
        node.available = node.total.clone();
        node.gpus
            .iter_mut()
            .for_each(|gpu| gpu.free = Quantity::ONE);
        node
    }

    /// Names of the resources of which too little is free for the request now.
    pub fn short_of(&self, request: &ResourceRequest) -> Vec<String> {
        let wanted = request.resources().clone().without(GPU);
        let mut short: Vec<String> = self
            .available
            .short_of(&wanted)
            .into_iter()
            .map(str::to_owned)
            .collect();
        if self.pick_gpus(request).is_none() {
            short.push(GPU.to_owned());
        }
        short
    }

    /// Takes what the request asks for, or `None` when it does not fit now.
    pub fn allocate(&mut self, request: &ResourceRequest) -> Option<Allocation> {
        let resources = request.resources().clone().without(GPU);
        if !self.available.covers(&resources) {
            return None;
        }
        let (positions, gpu_share) = self.pick_gpus(request)?;
        self.available.subtract(&resources);
        let mut gpu_ids = Vec::with_capacity(positions.len());
        for position in positions {
            self.gpus[position].free -= gpu_share;
            gpu_ids.push(self.gpus[position].id);
        }
        Some(Allocation {
            resources,
            gpu_ids,
            gpu_share,
            is_cpu_lent: false,
        })
    }

    /// Gives back everything that `allocation` still holds, and no more (`RES-3`).
    pub fn release(&mut self, allocation: &Allocation) {
        let mut resources = allocation.resources.clone();
        if allocation.is_cpu_lent {
            resources = resources.without(CPU);
        }
        self.available.add(&resources);
        for gpu in self
            .gpus
            .iter_mut()
            .filter(|gpu| allocation.gpu_ids.contains(&gpu.id))
        {
            gpu.free += allocation.gpu_share;
        }
    }

    /// The holder waits for others: its CPUs are free for them until [`Self::unblock`].
    pub fn block(&mut self, allocation: &mut Allocation) {
        if !allocation.is_cpu_lent {
            allocation.is_cpu_lent = true;
            self.available.add(&allocation.resources.only(&[CPU]));
        }
    }

    /// The holder goes on: takes its CPUs back at once, even if that makes the free CPUs negative (`RES-1`).
    pub fn unblock(&mut self, allocation: &mut Allocation) {
        if allocation.is_cpu_lent {
            allocation.is_cpu_lent = false;
            self.available.subtract(&allocation.resources.only(&[CPU]));
        }
    }

    /// Positions of the devices that would serve the request, and the share of each (`RES-2`).
    ///
    /// A fraction goes to the fullest device that has room (best fit), so that whole devices stay free.
    fn pick_gpus(&self, request: &ResourceRequest) -> Option<(Vec<usize>, Quantity)> {
        if !request.wants_gpu() {
            return Some((Vec::new(), Quantity::ZERO));
        }
        let count = request.gpu_count();
        if count == 1 {
            return self
                .gpus
                .iter()
                .enumerate()
                .filter_map(|(position, gpu)| Some((gpu.free, position, request.share_of(gpu)?)))
                .filter(|(free, _, share)| share <= free)
                .min()
                .map(|(_, position, share)| (vec![position], share));
        }
        let is_free = |(_, gpu): &(usize, &GpuDevice)| gpu.free == Quantity::ONE;
        let free = self
            .gpus
            .iter()
            .enumerate()
            .filter(is_free)
            .map(|(position, _)| position);
        let chosen: Vec<usize> = free.take(count).collect();
        (chosen.len() == count).then_some((chosen, Quantity::ONE))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(cpus: i64, gpus: u32) -> NodeResources {
        let devices = (0..gpus).map(|id| GpuDevice::new(id, 1_000)).collect();
        NodeResources::new(ResourceSet::of_cpus(cpus), devices, BTreeMap::new())
    }

    fn request(numbers: &[(&str, f64)]) -> ResourceRequest {
        ResourceRequest::from_numbers(numbers.iter().copied(), 0).unwrap()
    }

    #[test]
    fn fractions_pack_onto_one_device_before_opening_another() {
        let mut node = node(8, 2);
        let half = request(&[("GPU", 0.5)]);
        let ids: Vec<_> = (0..4)
            .map(|_| node.allocate(&half).unwrap().gpu_ids()[0])
            .collect();
        assert_eq!(ids, [0, 0, 1, 1]);
        assert!(node.allocate(&half).is_none());
    }

    #[test]
    fn a_fraction_does_not_straddle_devices_although_the_sum_would_do() {
        let mut node = node(8, 2);
        let most = request(&[("GPU", 0.6)]);
        node.allocate(&most).unwrap();
        node.allocate(&most).unwrap();
        assert_eq!(node.available().get(GPU), Quantity::from_units(8_000));
        assert!(node.allocate(&request(&[("GPU", 0.5)])).is_none());
        assert_eq!(node.short_of(&request(&[("GPU", 0.5)])), ["GPU"]);
    }

    #[test]
    fn whole_gpus_need_wholly_free_devices() {
        let mut node = node(8, 3);
        let shared = node.allocate(&request(&[("GPU", 0.1)])).unwrap();
        let two = node.allocate(&request(&[("GPU", 2.0)])).unwrap();
        assert_eq!((shared.gpu_ids(), two.gpu_ids()), (&[0][..], &[1, 2][..]));
        assert!(!node.fits(&request(&[("GPU", 1.0)])));
    }

    #[test]
    fn device_memory_limits_how_many_share_a_device() {
        let mut node = node(8, 1);
        let memory = ResourceRequest::new(ResourceSet::new(), 400).unwrap();
        assert_eq!(
            node.allocate(&memory).unwrap().gpu_share(),
            Quantity::from_units(4_000)
        );
        node.allocate(&memory).unwrap();
        assert!(node.allocate(&memory).is_none());
        assert_eq!(node.gpus()[0].free, Quantity::from_units(2_000));
    }

    #[test]
    fn logical_gpus_come_from_the_declared_count() {
        let total = ResourceSet::of_cpus(1).with(GPU, Quantity::from_whole(4));
        let node = NodeResources::new(total, Vec::new(), BTreeMap::new());
        assert_eq!(node.gpus().len(), 4);
        assert!(!node.could_ever_fit(&ResourceRequest::new(ResourceSet::new(), 1).unwrap()));
    }

    #[test]
    fn blocked_holder_lends_its_cpu_and_takes_it_back_at_once() {
        let mut node = node(1, 0);
        let one = request(&[("CPU", 1.0)]);
        let mut parent = node.allocate(&one).unwrap();
        node.block(&mut parent);
        let child = node.allocate(&one).unwrap();
        node.unblock(&mut parent);
        assert_eq!(node.available().get(CPU), Quantity::from_whole(-1));
        node.release(&child);
        node.release(&parent);
        assert_eq!(node, node.emptied());
    }

    #[test]
    fn holder_that_dies_while_blocked_gives_nothing_back_twice() {
        let mut node = node(2, 1);
        let mut held = node
            .allocate(&request(&[("CPU", 2.0), ("GPU", 0.5)]))
            .unwrap();
        node.block(&mut held);
        node.release(&held);
        assert_eq!(node, node.emptied());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Allocate { cpu: i64, gpu: i64, memory: u64 },
        Release(usize),
        Block(usize),
        Unblock(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let gpu = prop_oneof![0..=10_000i64, Just(20_000i64)];
        prop_oneof![
            (0..30_000i64, gpu, prop_oneof![Just(0u64), 1..1_200u64])
                .prop_map(|(cpu, gpu, memory)| Step::Allocate { cpu, gpu, memory }),
            any::<usize>().prop_map(Step::Release),
            any::<usize>().prop_map(Step::Block),
            any::<usize>().prop_map(Step::Unblock),
        ]
    }

    fn check(node: &NodeResources, held: &[Allocation]) {
        for gpu in node.gpus() {
            let shares = held.iter().filter(|a| a.gpu_ids().contains(&gpu.id));
            let used: Quantity = shares.map(Allocation::gpu_share).sum();
            assert_eq!(used + gpu.free, Quantity::ONE);
            assert!(!gpu.free.is_negative());
        }
        for allocation in held {
            let is_shared = allocation.gpu_share() < Quantity::ONE;
            assert!(!is_shared || allocation.gpu_ids().len() <= 1, "RES-2");
        }
        let working = held.iter().filter(|a| !a.is_cpu_lent());
        let used: Quantity = working.map(|a| a.resources().get(CPU)).sum();
        assert_eq!(used + node.available().get(CPU), node.total().get(CPU));
    }

    proptest! {
        #[test]
        fn any_sequence_keeps_the_books_balanced(steps in prop::collection::vec(step(), 0..60)) {
            let mut node = node(6, 3);
            let mut held: Vec<Allocation> = Vec::new();
            for step in steps {
                match step {
                    Step::Allocate { cpu, gpu, memory } => {
                        let set = ResourceSet::from_units([(CPU, cpu), (GPU, gpu)]);
                        let memory = if gpu > 10_000 { 0 } else { memory };
                        let request = ResourceRequest::new(set, memory).unwrap();
                        let before = node.clone();
                        let fits = node.fits(&request);
                        let made = node.allocate(&request);
                        prop_assert_eq!(fits, made.is_some());
                        prop_assert_eq!(fits, before.short_of(&request).is_empty());
                        match made {
                            Some(allocation) => {
                                prop_assert!(cpu == 0 || !node.available().get(CPU).is_negative(), "RES-1");
                                held.push(allocation);
                            }
                            None => prop_assert_eq!(&node, &before),
                        }
                    }
                    Step::Release(n) if !held.is_empty() => {
                        let allocation = held.swap_remove(n % held.len());
                        node.release(&allocation);
                    }
                    Step::Block(n) if !held.is_empty() => {
                        let index = n % held.len();
                        node.block(&mut held[index]);
                    }
                    Step::Unblock(n) if !held.is_empty() => {
                        let index = n % held.len();
                        node.unblock(&mut held[index]);
                    }
                    _ => {}
                }
                check(&node, &held);
            }
            held.iter().for_each(|allocation| node.release(allocation));
            prop_assert_eq!(&node, &node.emptied(), "RES-3");
        }
    }
}
