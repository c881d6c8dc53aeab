package configs_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/sconce-dev/sconce/configs"
)

func TestSizeIsReadAsItIsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := configs.Size(rapid.Int64Min(0).Draw(t, "size"))
		got, err := configs.ParseSize(s.String())
		if err != nil || got != s {
			t.Fatalf("%d is written %q and read %d, %v", int64(s), s, got, err)
		}
	})
}

func TestSizeText(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "512": 512, "512B": 512, "64KiB": 64 << 10, "64 KiB": 64 << 10, "1MiB": 1 << 20, "2GiB": 2 << 30,
	} {
		if got, err := configs.ParseSize(text); err != nil || int64(got) != want {
			t.Errorf("%q: got %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "KiB", "-1", "1.5KiB", "1KB", "1K", "9223372036854775807KiB", "1 KiB B"} {
		if got, err := configs.ParseSize(text); err == nil {
			t.Errorf("%q is read as %d", text, got)
		}
	}
}
