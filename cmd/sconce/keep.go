package main

import (
	"github.com/spf13/cobra"

	"github.com/sconce-dev/sconce/sessions/launch"
)

// keepEngine is the command by which Sconce starts keepers.
const keepEngine = "keep-engine"

// keepEngineCommand is for Sconce itself; nobody else has an order to give it.
func (a *app) keepEngineCommand() *cobra.Command {
	return &cobra.Command{
		Use: keepEngine, Hidden: true, Args: noArgs,
		Short: "Keep one engine; Sconce starts this by itself",
		RunE:  func(*cobra.Command, []string) error { return launch.Keep(a.stdin) },
	}
}
