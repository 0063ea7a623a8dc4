package metrics

import (
	"strconv"
)

// Kind is what Prometheus calls the type of a metric.
type Kind string

// The kinds that there are here.
const (
	Gauge   Kind = "gauge"
	Counter Kind = "counter" // only ever grows while the process lives; its name ends in _total
)

// Metric is one line of the list.
type Metric struct {
	Name string
	Kind Kind
	Help string
}

// List returns everything that is told of a host that has every part, in the order in which it is told. Names are
// muster_<noun>_<unit>, in base units.
func List() []Metric {
	out := series{}
	out.tell(&Snapshot{Replica: &Replica{}, Runs: &Runs{}, Sessions: &Sessions{}, Reports: &Reports{}})
	return out.list
}

// tell tells everything: the whole list, in its order.
func (out *series) tell(s *Snapshot) {
	out.aboutProgram(s)
	out.aboutProcess(s)
	out.aboutFleet(s)
	out.aboutAgent(s)
	out.aboutQuorum(s)
	out.aboutReplica(s.Replica)
	out.aboutRuns(s.Runs)
	out.aboutSessions(s.Sessions)
	out.aboutNetwork(s)
	out.aboutGossip(s)
	out.aboutReports(s.Reports)
	out.aboutDisk(s)
	out.aboutBudget(s)
	out.aboutReleases(s)
	out.aboutScrapes(s)
}

func (out *series) aboutProgram(s *Snapshot) {
	out.begin("muster_build_info", Gauge, "Always 1; the labels say which program runs, and the highest level of formats that it speaks.")
	out.add(1, "version", s.Build.Version, "level", strconv.FormatUint(uint64(s.Build.Level), 10), "go", s.Build.Go, "arch", s.Build.Arch)
	out.gauge("muster_start_time_seconds", "When the agent was started, in Unix seconds.", float64(s.Started.UnixMilli())/1e3)
}

func (out *series) aboutProcess(s *Snapshot) {
	out.counter("muster_process_cpu_seconds_total", "CPU time of the agent's process, user and system.", s.Process.CPUSeconds)
	out.gauge("muster_process_resident_memory_bytes", "Resident memory of the agent's process.", float64(s.Process.RSS))
	out.gauge("muster_process_heap_bytes", "Heap of the agent's process: live objects, and garbage that is not collected yet.", float64(s.Process.Heap))
	out.counter("muster_process_gc_cpu_seconds_total", "CPU time of collecting garbage.", s.Process.GCSeconds)
	out.gauge("muster_process_goroutines", "Goroutines of the agent.", float64(s.Process.Goroutines))
	out.gauge("muster_process_open_files", "Open file descriptors of the agent's process.", float64(s.Process.Files))
	out.gauge("muster_process_max_files", "Most file descriptors that the process may have open.", float64(s.Process.MaxFiles))
}

func (out *series) aboutFleet(s *Snapshot) {
	out.begin("muster_fleet_members", Gauge, "Members of the fleet as this host sees them, by status.")
	out.add(float64(s.Fleet.Online), "status", "online")
	out.add(float64(s.Fleet.Lost), "status", "lost")
	out.add(float64(s.Fleet.Left), "status", "left")
	out.gauge("muster_fleet_level", "The level of formats that the fleet has agreed on, as this host knows it.", float64(s.Fleet.Level))
	out.gauge("muster_fleet_act_index", "Index of the newest act of the fleet that this host knows of.", float64(s.Fleet.Act))
	out.gauge("muster_record_acts", "Acts in this host's record of the fleet.", float64(s.Fleet.Acts))
	out.gauge("muster_record_charter_entries", "Entries of the charter in this host's record.", float64(s.Fleet.CharterEntries))
	out.begin("muster_record_beacon_age_seconds", Gauge, "How old the servers' newest word to this host is; absent before the first.")
	out.duration(s.Fleet.BeaconAge)
}

func (out *series) aboutAgent(s *Snapshot) {
	out.counter("muster_agent_turns_total", "Turns of the agent's loop.", float64(s.Agent.Turns))
	out.gauge("muster_agent_queue_events", "Events that wait for the agent's loop.", float64(s.Agent.Queue))
	out.counter("muster_agent_lost_bells_total", "Bells that found no room in the loop's queue; what they said is caught up on later.", float64(s.Agent.BellsLost))
	out.counter("muster_agent_requests_total", "Requests of peers that this host answered.", float64(s.Agent.Requests))
	out.counter("muster_agent_refused_requests_total", "Requests of peers that were answered with an error.", float64(s.Agent.Refused))
	out.gauge("muster_agent_clock_off_seconds", "What this host's clock is known to be off by; 0 within what is normal.", s.Agent.ClockOff.Seconds())
	out.gauge("muster_agent_warnings", "Warnings of muster status on this host.", float64(s.Agent.Warnings))
	out.gauge("muster_agent_refused_by_peers", "1 if peers refuse this node: it was removed, or its key is another fleet's.", truth(s.Agent.PeersRefuse))
	out.gauge("muster_agent_paused", "1 if this host's own root has paused the agent.", truth(s.Agent.Paused))
	out.gauge("muster_agent_drained", "1 if operators have drained this node.", truth(s.Agent.Drained))
	out.gauge("muster_agent_outbound_only", "1 if nobody can dial this host.", truth(s.Agent.OutboundOnly))
	out.gauge("muster_agent_uplinks", "Uplinks through which an outbound-only host is reached.", float64(s.Agent.Uplinks))
}

func (out *series) aboutQuorum(s *Snapshot) {
	out.gauge("muster_quorum_leader_known", "1 if this host knows who leads the servers.", truth(s.Quorum.LeaderKnown))
	out.gauge("muster_quorum_voters", "Servers that vote, as this host knows it.", float64(s.Quorum.Voters))
	out.gauge("muster_quorum_online_voters", "Of these, those that this host sees.", float64(s.Quorum.VotersOnline))
	out.gauge("muster_quorum_spares", "Servers that would replace a lost voter.", float64(s.Quorum.Spares))
	out.gauge("muster_quorum_bearable_losses", "How many more voters may be lost before nothing new can be agreed; negative: it cannot.", float64(s.Quorum.Bearable()))
}

func (out *series) aboutReplica(r *Replica) {
	if r == nil {
		return
	}
	out.gauge("muster_replica_member", "1 if the servers count on this host's replica.", truth(r.Member))
	out.gauge("muster_replica_leader", "1 if this server leads.", truth(r.Leading))
	out.gauge("muster_replica_stalled", "1 if this server's disk hangs, so that it does not lead.", truth(r.Stalled))
	out.gauge("muster_replica_term", "Term of the election that this replica knows of; it grows with every election.", float64(r.Term))
	out.gauge("muster_replica_commit_index", "Index of the newest entry that is known here to be agreed.", float64(r.Commit))
	out.gauge("muster_replica_applied_index", "Index of the newest entry that this replica has applied.", float64(r.Applied))
	out.gauge("muster_replica_act_index", "Index of the newest act in this replica.", float64(r.Act))
	out.gauge("muster_replica_log_bytes", "Size of this replica's file of log entries.", float64(r.Bytes))
}

func (out *series) aboutRuns(r *Runs) {
	if r == nil {
		return
	}
	out.gauge("muster_runs_running", "Runs of commands that are in progress on this host.", float64(r.Running))
	out.gauge("muster_runs_queued", "Runs that wait for one of those to end.", float64(r.Queued))
	out.gauge("muster_runs_capacity", "Most runs at a time.", float64(r.Capacity))
	out.counter("muster_runs_started_total", "Runs that were started since the agent was.", float64(r.Started))
	out.begin("muster_runs_ended_total", Counter, "Runs that ended since the agent was started, by status.")
	out.counts("status", r.Ended)
	out.gauge("muster_runs_kept_bytes", "Disk space of the output that is kept of runs.", float64(r.Bytes))
	out.gauge("muster_runs_max_kept_bytes", "Disk space that it may take before the oldest goes.", float64(r.Bound))
	out.gauge("muster_ledger_bytes", "Size of the ledger: what this host has run.", float64(r.Ledger))
}

func (out *series) aboutSessions(o *Sessions) {
	if o == nil {
		return
	}
	out.gauge("muster_sessions_running", "Sessions that are open on this host.", float64(o.Running))
	out.gauge("muster_sessions_attached", "Of these, those with somebody at the other end.", float64(o.Attached))
	out.gauge("muster_sessions_kept", "Sessions of which this host keeps something, the open ones among them.", float64(o.Kept))
}

func (out *series) aboutNetwork(s *Snapshot) {
	out.begin("muster_network_connections", Gauge, "QUIC connections with peers, by plane.")
	out.counts("plane", s.Network.Connections)
	out.gauge("muster_network_peers", "Peers with which there is a connection.", float64(s.Network.Peers))
	out.counter("muster_network_connections_total", "QUIC connections with peers that were made.", float64(s.Network.Opened))
	out.gauge("muster_network_half_open_connections", "Connections of strangers that have not said yet who they are.", float64(s.Network.HalfOpen))
	out.gauge("muster_network_pipes", "Pipes of outbound-only nodes that pass through this host or end here.", float64(s.Network.Pipes))
	out.begin("muster_network_packets_total", Counter, "Sealed packets (gossip, bells), by direction.")
	out.add(float64(s.Network.PacketsReceived), "direction", "in")
	out.add(float64(s.Network.PacketsSent), "direction", "out")
	out.counter("muster_network_strange_packets_total", "Packets that are none of this fleet's, or were heard before.", float64(s.Network.PacketsDropped))
	out.counter("muster_network_socket_drops_total", "Datagrams for which the UDP socket's buffer had no room.", float64(s.Network.SocketDrops))
}

func (out *series) aboutGossip(s *Snapshot) {
	out.gauge("muster_gossip_health_score", "Local health of failure detection: 0 is well, each missed answer counts.", float64(s.Gossip.Health))
	out.begin("muster_gossip_silence_seconds", Gauge, "How long nothing was heard from any member; absent before the first word.")
	out.duration(s.Gossip.Silence)
	out.gauge("muster_gossip_key_epoch", "Epoch of the fleet's gossip key; it grows when a node is removed.", float64(s.Gossip.KeyEpoch))
}

func (out *series) aboutReports(r *Reports) {
	if r == nil {
		return
	}
	out.gauge("muster_reports_bytes", "Size of this server's store of reports.", float64(r.Bytes))
	out.gauge("muster_reports_max_bytes", "Size above which the oldest reports give way.", float64(r.Bound))
	out.counter("muster_reports_kept_total", "Reports of nodes that this server has taken in.", float64(r.Kept))
	out.gauge("muster_reports_watchers", "Who follows commands at this server.", float64(r.Watchers))
}

func (out *series) aboutDisk(s *Snapshot) {
	out.gauge("muster_disk_free_bytes", "Room on the disk of the data folder.", float64(s.Disk.Free))
	out.gauge("muster_disk_size_bytes", "Size of the disk of the data folder.", float64(s.Disk.Size))
}

func (out *series) aboutBudget(s *Snapshot) {
	out.gauge("muster_budget_memory_bytes", "Memory that the agent keeps itself to; 0: no budget.", float64(s.Budget.MemoryBytes))
	out.gauge("muster_budget_cpu_ratio", "CPU time that the agent keeps itself to, as a part of one processor; 0: no budget.", float64(s.Budget.CPUPercent)/100)
	out.begin("muster_budget_acts_total", Counter, "What the agent did to keep to its budget, by act.")
	out.counts("act", s.Budget.Acts)
}

func (out *series) aboutReleases(s *Snapshot) {
	out.begin("muster_release_bytes_total", Counter, "Bytes of releases that were carried from peer to peer, by direction.")
	out.add(float64(s.Release.ReceivedBytes), "direction", "in")
	out.add(float64(s.Release.SentBytes), "direction", "out")
}

func (out *series) aboutScrapes(s *Snapshot) {
	out.counter("muster_metrics_scrapes_total", "Answers to scrapes before this one.", float64(s.Scrapes))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
