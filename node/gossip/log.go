package gossip

import (
	"context"
	"log"
	"log/slog"
	"strings"
)

// listLog turns the lines of serf and memberlist into records at debug level: what matters of them reaches people as
// events, and peers could fill a log with the rest.
type listLog struct{ log *slog.Logger }

func newListLog(l *slog.Logger) *log.Logger { return log.New(listLog{l}, "", 0) }

// Write takes one line.
func (l listLog) Write(p []byte) (int, error) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		level, text := splitLevel(string(p))
		l.log.Debug(text, "said", level)
	}
	return len(p), nil
}

// splitLevel parts "[WARN] serf: text" into warn and text.
func splitLevel(line string) (level, text string) {
	line = strings.TrimSpace(line)
	if rest, ok := strings.CutPrefix(line, "["); ok {
		if level, text, ok := strings.Cut(rest, "]"); ok && len(level) <= len("ERROR") {
			return strings.ToLower(level), strings.TrimSpace(text)
		}
	}
	return "info", line
}
