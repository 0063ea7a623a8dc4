package lan

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Rebooted waits until something on the host reboots it (shutdown -r, reboot), and does what a machine does then: every
// process has ended, the host comes up under another boot ID, and its agent is started as it was.
func (h *Host) Rebooted(ctx context.Context) error {
	err := h.until(ctx, "it reboots", func() (bool, error) {
		asked := false
		err := h.inside(func(root string) error {
			_, err := os.Stat(filepath.Join(root, "run/rebooting"))
			asked = err == nil
			return nil
		})
		return asked, err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", h.name, err)
	}
	if err := h.PowerCut(); err != nil {
		return err
	}
	h.mu.Lock()
	args := slices.Clone(h.args)
	h.mu.Unlock()
	return h.Start(args...)
}
