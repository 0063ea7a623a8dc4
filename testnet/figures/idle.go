package main

import (
	"context"
	"time"

	"github.com/muster-fleet/muster/testnet/lan"
)

// ethernetHead is how many bytes of a frame an interface counts beside the IP packet.
const ethernetHead = 14

// idle measures what agents take that have nothing to do. They have done something before: a command on all.
func idle(ctx context.Context, b *bench) ([]figure, error) {
	if _, err := b.runAll(ctx, "true"); err != nil {
		return nil, err
	}
	if err := pause(ctx, b.rest); err != nil {
		return nil, err
	}
	before, err := b.gauges()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := pause(ctx, b.idle); err != nil {
		return nil, err
	}
	after, err := b.gauges()
	if err != nil {
		return nil, err
	}
	return idleFigures(before, after, time.Since(start)), nil
}

// gauge is what one host shows at one moment.
type gauge struct {
	cpu     time.Duration // of the agent, and of what it has waited for
	memory  memory
	traffic lan.Traffic
}

func (b *bench) gauges() ([]gauge, error) {
	var out []gauge
	for _, h := range b.hosts {
		if err := b.allRun(); err != nil {
			return nil, err
		}
		used, err := cpuOf(h.PID())
		if err != nil {
			return nil, err
		}
		m, err := memoryOf(h.PID())
		if err != nil {
			return nil, err
		}
		t, err := h.Traffic()
		if err != nil {
			return nil, err
		}
		out = append(out, gauge{used.own + used.children, m, t})
	}
	return out, nil
}

// idleFigures compares two looks at the same hosts. CPU and traffic are means: the whole is what the fleet costs.
func idleFigures(before, after []gauge, over time.Duration) []figure {
	var rss, pss, cpu, packets, octetsSent []float64
	for i, b := range before {
		a := after[i]
		rss, pss = append(rss, a.memory.rss), append(pss, a.memory.pss)
		cpu = append(cpu, 100*(a.cpu-b.cpu).Seconds()/over.Seconds())
		sent := float64(a.traffic.SentPackets - b.traffic.SentPackets)
		packets = append(packets, sent/over.Seconds())
		octetsSent = append(octetsSent, (float64(a.traffic.SentBytes-b.traffic.SentBytes)-sent*ethernetHead)/over.Seconds())
	}
	return []figure{
		{key: "idle_rss_p50_bytes", name: "idle, RSS, p50", unit: octets, value: median(rss), aim: 25e6},
		{key: "idle_rss_max_bytes", name: "idle, RSS, largest", unit: octets, value: largest(rss), aim: 25e6},
		{key: "idle_pss_p50_bytes", name: "idle, PSS, p50", unit: octets, value: median(pss), aim: 15e6},
		{key: "idle_pss_max_bytes", name: "idle, PSS, largest", unit: octets, value: largest(pss)},
		{key: "idle_cpu_p50_percent", name: "idle, CPU, p50", unit: percent, value: median(cpu), note: "in a large fleet p50 is a node that is no server"},
		{key: "idle_cpu_mean_percent", name: "idle, CPU, mean", unit: percent, value: mean(cpu), aim: 0.35},
		{key: "idle_cpu_max_percent", name: "idle, CPU, largest", unit: percent, value: largest(cpu)},
		{key: "idle_sent_mean_packets_per_second", name: "idle, packets sent, mean", unit: packetsASecond, value: mean(packets),
			note: "as the interface counts; several packets handed over at once are one"},
		{key: "idle_sent_p50_bytes_per_second", name: "idle, IP bytes sent, p50", unit: octetsASecond, value: median(octetsSent)},
		{key: "idle_sent_mean_bytes_per_second", name: "idle, IP bytes sent, mean", unit: octetsASecond, value: mean(octetsSent), aim: 1000},
		{key: "idle_sent_max_bytes_per_second", name: "idle, IP bytes sent, largest", unit: octetsASecond, value: largest(octetsSent)},
	}
}
