package main

import (
	"context"
	"os"
	"time"

	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
)

// Checkup is that of a host with which all is well.
func (w *town) Checkup(ctx context.Context, ask shape.CheckupAsk) (shape.Checkup, error) {
	var found []shape.WayCheck
	for _, n := range w.Nodes(ctx) {
		if n.Name == "web01" || ask.Node != "" && ask.Node != n.Name {
			continue
		}
		fast := []shape.Probe{{Address: "10.0.0." + n.Name[4:] + ":7980", Answered: true, RTT: 300, Largest: 1472}}
		found = append(found, shape.WayCheck{
			Peer: shape.Named{ID: n.ID, Name: n.Name}, Status: string(n.Status), There: fast, Back: fast, Others: []shape.OtherProbe{},
			Asked: shape.Asked{OK: true, RTT: 400, ClockOff: 1000, Version: "1.2.3"},
		})
	}
	if ask.Node != "" && len(found) == 0 {
		return shape.Checkup{}, fleet.Errorf(fleet.NotFound, "no node %s", ask.Node).Hinted("muster node list")
	}
	out := wellCheckup(time.Now())
	out.Ways = found
	return out, nil
}

// MayCheckUp lets everybody.
func (w *town) MayCheckUp(fleet.ID) error { return nil }

// wellCheckup is what an agent tells with which all is well, and which looked at no other.
func wellCheckup(now time.Time) shape.Checkup {
	age, month := int64(2000), now.Add(-30*24*time.Hour)
	return shape.Checkup{
		Format: shape.Format, Node: shape.Named{Name: "web01"}, Now: now, Port: 7980, Ways: []shape.WayCheck{}, Config: []string{},
		Keys: shape.KeyCheck{
			GossipEpoch: 1, GossipSince: &month, HasGossip: true, Enrolled: &month, Operators: []shape.OperatorKey{{Name: "alice"}},
		},
		Beacon: shape.BeaconCheck{Age: &age, Level: int(fleet.LevelNewest), Supports: int(fleet.LevelNewest)},
		Process: shape.ProcessCheck{
			PID: os.Getpid(), Version: "1.2.3", Began: month, RSS: 30 << 20, Files: 20, FileLimit: 1024, Root: true,
			Sockets: []shape.SocketCheck{{Proto: "udp", Local: "0.0.0.0:7980", Listening: true, RecvBytes: 14 << 20, SendBytes: 14 << 20}},
		},
		Host: shape.HostCheck{
			Dir: "/var/lib/muster", Free: 5 << 30, Total: 20 << 30, FreeFiles: 1_000_000, Fsync: 900, FsyncWorst: 2000, Loose: []string{},
			RmemMax: 7_500_000, WmemMax: 7_500_000, Interfaces: []shape.InterfaceCheck{{Name: "eth0", MTU: 1500}}, Routes: true, ClockKept: "yes",
			MemTotal: 4 << 30, MemFree: 2 << 30, Kernel: "Linux 6.1.0 x86_64",
		},
		Budget:  shape.BudgetCheck{Acts: []shape.BudgetAct{}},
		Members: []shape.MemberCheck{{Name: "web01", Version: "1.2.3", Status: "Online"}},
	}
}

// RecentDecisions are made up.
func (w *town) RecentDecisions(int) ([]string, error) {
	return []string{"6705067d-cd39-4b19-896c-013d6ad0967b  2026-11-23 19:01:22.684Z  policy  permitted"}, nil
}
