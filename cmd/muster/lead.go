package main

import "github.com/spf13/cobra"

func newInitCommand(*app) *cobra.Command  { return &cobra.Command{Use: "init"} }
func newJoinCommand(*app) *cobra.Command  { return &cobra.Command{Use: "join"} }
func newAgentCommand(*app) *cobra.Command { return &cobra.Command{Use: "agent"} }
func newDemoCommand(*app) *cobra.Command  { return &cobra.Command{Use: "demo"} }
