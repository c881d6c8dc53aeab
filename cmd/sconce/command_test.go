package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// docs/operations.md names every command there is, and no other.
func TestOperationsPageNamesTheCommands(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "## Commands")
	block, _, _ = strings.Cut(block, "| code |")
	var named []string
	for _, m := range regexp.MustCompile(`sconce ([a-z]+)(?: ([a-z|]+))?`).FindAllStringSubmatch(block, -1) {
		for sub := range strings.SplitSeq(m[2], "|") {
			if path := strings.TrimSpace("sconce " + m[1] + " " + sub); !slices.Contains(named, path) {
				named = append(named, path)
			}
		}
	}
	want := leaves((&app{}).rootCommand())
	slices.Sort(named)
	slices.Sort(want)
	if !slices.Equal(named, want) {
		t.Errorf("the page names\n%q, there are\n%q", named, want)
	}
}

// leaves are the commands that hold no others.
func leaves(cmd *cobra.Command) (paths []string) {
	if !cmd.HasSubCommands() && !cmd.Hidden {
		return []string{cmd.CommandPath()}
	}
	for _, sub := range cmd.Commands() {
		paths = append(paths, leaves(sub)...)
	}
	return paths
}
