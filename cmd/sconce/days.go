package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// daysFlag is a span of time that may also be written in days: 90m, 8h, 7d.
type daysFlag time.Duration

// Set is part of pflag.Value.
func (d *daysFlag) Set(text string) error {
	if n, ok := strings.CutSuffix(text, "d"); ok {
		days, err := strconv.ParseUint(n, 10, 15)
		if err != nil {
			return fmt.Errorf("%q: write a whole number of days, such as 7d", text)
		}
		*d = daysFlag(time.Duration(days) * 24 * time.Hour)
		return nil
	}
	span, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q: write a span of time with its unit, such as 90m, 8h or 7d", text)
	}
	*d = daysFlag(span)
	return nil
}

// Type is part of pflag.Value.
func (d *daysFlag) Type() string { return "duration" }

// String is part of pflag.Value.
func (d *daysFlag) String() string {
	if *d == 0 {
		return ""
	}
	return time.Duration(*d).String()
}
