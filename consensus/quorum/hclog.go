package quorum

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// raftLog brings raft's log lines to slog. Raft warns of every election and calls each failed heartbeat an error; so
// errors become warnings, each message at most once a minute, and the rest is debug.
type raftLog struct {
	hclog.Logger // answers for the methods nobody calls
	out          *slog.Logger
	said         *said
}

const sayAgain = time.Minute

type said struct {
	mu   sync.Mutex
	last map[string]time.Time // by message; raft's messages are constants, so this is bounded
}

func newRaftLog(out *slog.Logger) hclog.Logger {
	return &raftLog{Logger: hclog.NewNullLogger(), out: out, said: &said{last: map[string]time.Time{}}}
}

func (l *raftLog) write(level hclog.Level, message string, args []any) {
	to := slog.LevelDebug
	if level >= hclog.Error && l.said.due(message) {
		to = slog.LevelWarn
	}
	if l.out.Enabled(context.Background(), to) {
		l.out.Log(context.Background(), to, "raft: "+message, args...)
	}
}

func (s *said) due(message string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if last, found := s.last[message]; found && now.Sub(last) < sayAgain {
		return false
	}
	s.last[message] = now
	return true
}

func (l *raftLog) Log(level hclog.Level, message string, args ...any) { l.write(level, message, args) }
func (l *raftLog) Trace(message string, args ...any)                  { l.write(hclog.Trace, message, args) }
func (l *raftLog) Debug(message string, args ...any)                  { l.write(hclog.Debug, message, args) }
func (l *raftLog) Info(message string, args ...any)                   { l.write(hclog.Info, message, args) }
func (l *raftLog) Warn(message string, args ...any)                   { l.write(hclog.Warn, message, args) }
func (l *raftLog) Error(message string, args ...any)                  { l.write(hclog.Error, message, args) }
func (l *raftLog) IsTrace() bool                                      { return false }
func (l *raftLog) IsDebug() bool                                      { return true }
func (l *raftLog) IsInfo() bool                                       { return true }
func (l *raftLog) IsWarn() bool                                       { return true }
func (l *raftLog) IsError() bool                                      { return true }
func (l *raftLog) With(...any) hclog.Logger                           { return l }
func (l *raftLog) Named(string) hclog.Logger                          { return l }
func (l *raftLog) ResetNamed(string) hclog.Logger                     { return l }
