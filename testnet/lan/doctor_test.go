package lan

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

// finding is what the tests read of one of the doctor's.
type finding struct{ Check, Level, What, Evidence, Mend string }

// doctor asks the doctor of a host, about the way to another, or all.
func doctor(t *testing.T, h *Host, args ...string) (findings []finding, code int) {
	t.Helper()
	var answer struct{ Findings []finding }
	r := h.Muster(t.Context(), append([]string{"doctor", "-o", "json"}, args...)...)
	if err := json.Unmarshal([]byte(r.Stdout), &answer); err != nil {
		t.Fatalf("%s: exit %d: %v\n%s%s", h.Name(), r.Code, err, r.Stdout, r.Stderr)
	}
	return answer.Findings, r.Code
}

// finds reports whether a host's doctor says of a check, at a level, what has the words.
func finds(t *testing.T, h *Host, check, level, words string) bool {
	t.Helper()
	findings, code := doctor(t, h)
	met := slices.ContainsFunc(findings, func(f finding) bool {
		return f.Check == check && f.Level == level && strings.Contains(f.What, words) && f.Mend != ""
	})
	if !met {
		for _, f := range findings {
			if f.Level != "ok" {
				t.Logf("%s: %+v", h.Name(), f)
			}
		}
	}
	return met && (code == 1) == (level == "problem")
}

// well reports whether a host's doctor finds no problem.
func well(t *testing.T, h *Host) bool {
	t.Helper()
	_, code := doctor(t, h)
	return code == 0
}

// TestDoctor breaks what a host can suffer from, one thing after the other, and asks the doctor of the hosts concerned.
func TestDoctor(t *testing.T) {
	t.Parallel()
	l := founded(t, 4)
	must(t, l.Settled(t.Context()))
	hosts := l.Hosts()
	a, b := hosts[0], hosts[1]
	shell := func(t *testing.T, h *Host, line string) {
		t.Helper()
		if out, err := h.Command(t.Context(), "sh", "-c", line).CombinedOutput(); err != nil {
			t.Fatalf("%s: %s: %v: %s", h.Name(), line, err, out)
		}
	}
	const fence = "nft 'add table inet fence; add chain inet fence in { type filter hook input priority 0; }; "
	heal := "nft 'delete table inet fence'"
	for _, ill := range []struct {
		name        string
		wound, mend func(t *testing.T)
		on          *Host
		check       string
		level       string
		words       string
		also        *Host // whose doctor says the next words
		alsoWords   string
	}{
		{"only answers get in",
			func(t *testing.T) {
				shell(t, a, fence+"add rule inet fence in ct state established accept; add rule inet fence in udp dport 7980 drop'")
			},
			func(t *testing.T) { shell(t, a, heal) },
			a, "ways", "problem", "only answers get in", nil, ""},
		{"one does not get in",
			func(t *testing.T) {
				shell(t, a, fence+"add rule inet fence in ip saddr "+b.Addr().String()+" udp dport 7980 drop'")
			},
			func(t *testing.T) { shell(t, a, heal) },
			a, "ways", "problem", "what " + b.Name() + " sends to this host's UDP port 7980 does not arrive", b, "nothing passes between this host and " + a.Name()},
		{"nothing gets out",
			func(t *testing.T) {
				shell(t, a, "nft 'add table inet fence; add chain inet fence out { type filter hook output priority 0; }; add rule inet fence out meta l4proto udp drop'")
			},
			func(t *testing.T) { shell(t, a, heal) },
			a, "ways", "problem", "own firewall lets none", b, a.Name() + " answers nobody"},
		{"a narrow path",
			func(t *testing.T) { shell(t, a, "ip link set dev eth0 mtu 1200") },
			func(t *testing.T) { shell(t, a, "ip link set dev eth0 mtu 1500") },
			a, "mtu", "problem", "packets of 1200 bytes do not pass", b, "packets of 1200 bytes do not pass to " + a.Name()},
		{"a wrong clock",
			func(t *testing.T) { must(t, b.Clock(7*time.Minute)) },
			func(t *testing.T) { must(t, b.Clock(0)) },
			b, "clock", "problem", "clock is", nil, ""},
		{"a full disk",
			func(t *testing.T) { must(t, b.FillDisk()) },
			func(t *testing.T) { must(t, b.FreeDisk()) },
			b, "disk", "problem", "is full", nil, ""},
		{"a dead agent",
			func(t *testing.T) { must(t, b.Kill()) },
			func(t *testing.T) { must(t, b.Start()) },
			b, "agent", "problem", "no agent answers on this host", nil, ""},
	} {
		t.Run(ill.name, func(t *testing.T) {
			eventually(t, "nothing is wrong before", func() bool { return well(t, ill.on) })
			ill.wound(t)
			eventually(t, "the doctor finds it", func() bool { return finds(t, ill.on, ill.check, ill.level, ill.words) })
			if ill.also != nil {
				eventually(t, "the other's doctor finds it", func() bool {
					findings, _ := doctor(t, ill.also)
					return slices.ContainsFunc(findings, func(f finding) bool { return f.Level != "ok" && strings.Contains(f.What, ill.alsoWords) })
				})
			}
			ill.mend(t)
			eventually(t, "nothing is wrong any more", func() bool { return well(t, ill.on) })
		})
		if t.Failed() {
			return
		}
	}
	t.Run("the quorum is lost", func(t *testing.T) {
		for _, h := range hosts[1:] {
			must(t, h.Stop())
		}
		eventually(t, "the doctor finds it", func() bool { return finds(t, a, "quorum", "problem", "the quorum is lost: 1 of 3 voters online") })
	})
}
