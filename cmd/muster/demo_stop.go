package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// demoDocument installs a release that starts nowhere.
const demoDocument = `schemaVersion: "2.2"
description: Bring the service to a release, and see whether it starts.
parameters:
  release:
    type: String
    allowedPattern: "^[0-9]+[.][0-9]+$"
mainSteps:
- name: install
  action: aws:runShellScript
  inputs:
    onFailure: exit
    runCommand:
    - echo installed {{ release }}
- name: check
  action: aws:runShellScript
  inputs:
    runCommand:
    - echo release {{ release }} does not start; exit 1
`

// stop sends a document that fails everywhere, two hosts at a time, and sees the error budget stop it.
func (s *stage) stop(ctx context.Context) error {
	first := s.nodes[0]
	file := filepath.Join(s.dir, "Release.yaml")
	if err := os.WriteFile(file, []byte(demoDocument), 0o600); err != nil {
		return err
	}
	s.tell("Now a document, with a release that starts nowhere. Two hosts at a time, and one failure is borne:")
	if _, err := s.show(ctx, first, exec.ExitOK, "doc", "put", file, "--name", "Release"); err != nil {
		return err
	}
	out, err := s.show(ctx, first, exec.ExitBudget, "run", "--doc", "Release", "--all", "--max-concurrency", "2", "--max-errors", "1", "--", "release=2.1")
	if err != nil {
		return err
	}
	if !strings.Contains(out, string(exec.Terminated)) {
		return fleet.Errorf(fleet.Internal, "the broken release reached every host")
	}
	s.tell("More than one failure stopped it: what ran came to its end, and the other hosts never started it.")
	return nil
}
