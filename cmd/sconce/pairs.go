package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// pairsFlag is a flag that is given as key=value, once for each key. A comma is
// part of the value: Spark's configuration has many.
type pairsFlag struct{ to *map[string]string }

// Set is part of pflag.Value.
func (p pairsFlag) Set(text string) error {
	key, value, ok := strings.Cut(text, "=")
	if !ok || key == "" {
		return fmt.Errorf("%q: write key=value", text)
	}
	if _, twice := (*p.to)[key]; twice {
		return errors.New(key + " is given twice: write it once")
	}
	if *p.to == nil {
		*p.to = map[string]string{}
	}
	(*p.to)[key] = value
	return nil
}

// Type is part of pflag.Value.
func (p pairsFlag) Type() string { return "key=value" }

// String is part of pflag.Value.
func (p pairsFlag) String() string {
	if p.to == nil {
		return ""
	}
	return pairs(*p.to)
}

// pairs words a map on one line.
func pairs(m map[string]string) string {
	list := make([]string, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		list = append(list, key+"="+m[key])
	}
	return strings.Join(list, ", ")
}
