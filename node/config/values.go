package config

// Budgets are what the agent itself may take of its host. Zero is no bound.
type Budgets struct {
	MemoryBytes int64 // resident
	CPUPercent  int   // of one processor, over a minute
}

// Limits are a host's own bounds, beside the fleet's and the operators'. Zero is no bound.
type Limits struct {
	Sessions   int   // open at a time
	Runs       int   // at a time
	OutputKeep int64 // bytes of output kept of all runs
}

// Preset returns the preset.
func (c Config) Preset() Preset { return Preset(c.Get(KeyPreset).Text) }

// Name returns the node's name for a host that joins; empty: the host's own.
func (c Config) Name() string { return c.Get(KeyName).Text }

// Bind returns the address of the UDP socket; empty: what the host does without.
func (c Config) Bind() string { return c.Get(KeyBind).Text }

// Advertise returns where others reach this host; empty: it finds out itself.
func (c Config) Advertise() []string { return split(c.Get(KeyAdvertise).Text) }

// Outbound reports whether nobody can dial this host.
func (c Config) Outbound() bool { return c.on(KeyOutbound) }

// LogLevel returns debug, info, warn or error.
func (c Config) LogLevel() string { return c.Get(KeyLogLevel).Text }

// LogFormat returns text or json.
func (c Config) LogFormat() string { return c.Get(KeyLogFormat).Text }

// MetricsAddress returns where metrics are served (TCP); empty: nowhere.
func (c Config) MetricsAddress() string { return c.Get(KeyMetricsAddress).Text }

// Budgets returns what the agent itself may take.
func (c Config) Budgets() Budgets {
	memory, _ := parseSize(c.Get(KeyMemoryBudget).Text)
	cpu, _ := parsePercent(c.Get(KeyCPUBudget).Text)
	return Budgets{MemoryBytes: memory, CPUPercent: cpu}
}

// Limits returns the host's own bounds.
func (c Config) Limits() Limits {
	sessions, _ := parseCount(c.Get(KeySessionsMax).Text)
	runs, _ := parseCount(c.Get(KeyRunsMax).Text)
	keep, _ := parseSize(c.Get(KeyOutputKeep).Text)
	return Limits{Sessions: sessions, Runs: runs, OutputKeep: keep}
}

func (c Config) on(name string) bool { return c.Get(name).Text == "true" }
