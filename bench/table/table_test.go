package table

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

func TestMedianAndLeast(t *testing.T) {
	nan := math.NaN()
	for _, tc := range []struct {
		name          string
		values        []float64
		median, least float64
	}{
		{"odd", []float64{3, 1, 2}, 2, 1},
		{"even", []float64{4, 1, 3, 2}, 2.5, 1},
		{"one", []float64{7}, 7, 7},
		{"with unknown", []float64{nan, 5, nan, 3}, 4, 3},
		{"none", nil, nan, nan},
		{"all unknown", []float64{nan}, nan, nan},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Median(tc.values); !same(got, tc.median) {
				t.Errorf("median %v, want %v", got, tc.median)
			}
			if got := Least(tc.values); !same(got, tc.least) {
				t.Errorf("least %v, want %v", got, tc.least)
			}
		})
	}
}

func TestMedianLeavesItsValuesAlone(t *testing.T) {
	v := []float64{3, 1, 2}
	Median(v)
	if v[0] != 3 || v[1] != 1 || v[2] != 2 {
		t.Errorf("values were sorted: %v", v)
	}
}

func TestPercentile(t *testing.T) {
	v := []time.Duration{50, 10, 40, 20, 30, 60, 70, 80, 90, 100}
	for _, tc := range []struct {
		p    float64
		want time.Duration
	}{{0, 10}, {0.5, 50}, {0.9, 90}, {0.99, 100}, {1, 100}} {
		if got := Percentile(v, tc.p); got != tc.want {
			t.Errorf("p%v: %v, want %v", tc.p*100, got, tc.want)
		}
	}
	if got := Percentile([]time.Duration{}, 0.5); got != 0 {
		t.Errorf("of none: %v", got)
	}
}

func TestMarkdown(t *testing.T) {
	cpu := func(r Repetition) float64 { return r.Own.Get("cpu") }
	ratio := func(r Repetition) float64 { return r.Own.Get("cpu") / r.Floor.Get("cpu") }
	table := Table{
		Title: "W0",
		Text:  "A test.",
		Columns: []Column{
			{Head: "CPU s", Value: cpu, Digits: 2, Least: true},
			{Head: "÷ floor", Value: ratio, Digits: 1},
			{Head: "nowhere", Value: func(r Repetition) float64 { return r.Direct.Get("cpu") }},
		},
		Rows: []Row{
			{Name: "a", Repetitions: []Repetition{
				{Own: Values{"cpu": 2}, Floor: Values{"cpu": 1}},
				{Own: Values{"cpu": 6}, Floor: Values{"cpu": 2}},
				{Own: Values{"cpu": 1}, Floor: Values{"cpu": 1}},
			}},
			{Name: "b", Remark: "not installed | really"},
		},
	}
	var b strings.Builder
	if err := table.WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	const want = `### W0

A test.

| proxy | n | CPU s | ÷ floor | remark |
| --- | ---: | ---: | ---: | --- |
| a | 3 | 2.00 (1.00) | 2.0 |  |
| b | 0 | - | - | not installed / really |

`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestCSV(t *testing.T) {
	var b strings.Builder
	err := WriteCSV(&b, []Run{
		{Workload: "W1", Peer: "tcp", Repetition: 1, Values: Values{"wall": 2, "cpu": 0.5}},
		{Workload: "W1", Peer: "x", Repetition: 2, Err: errors.New("reset, twice")},
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = `workload,proxy,repetition,figure,value
W1,tcp,1,cpu,0.5
W1,tcp,1,wall,2
W1,x,2,error,"reset, twice"
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func same(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }
