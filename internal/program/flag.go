package program

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagError says what is wrong with a flag in the words of a user, for cobra.Command.SetFlagErrorFunc.
func flagError(command *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || unknown.GetSpecifiedShortnames() != "" {
		return valueError(err)
	}
	known := &cobra.Command{} // cobra compares names of commands only
	command.Flags().VisitAll(func(flag *pflag.Flag) {
		known.AddCommand(&cobra.Command{Use: "--" + flag.Name, Hidden: flag.Hidden, Run: func(*cobra.Command, []string) {}})
	})
	if near := nearest("--"+unknown.GetSpecifiedName(), known); near != "" {
		return Usage("there is no flag --%s; did you mean %s?", unknown.GetSpecifiedName(), near)
	}
	return fmt.Errorf("there is no flag --%s", unknown.GetSpecifiedName())
}

// valueError says what is wrong with the value of a flag.
func valueError(err error) error {
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) {
		return err
	}
	flag, value := invalid.GetFlag(), invalid.GetValue()
	var number *strconv.NumError
	switch kind := flag.Value.Type(); {
	case kind == "duration" && !isDuration(value):
		return fmt.Errorf("--%s %q is no duration; use one such as 30s, 5m or 1h30m", flag.Name, value)
	case kind == "bool":
		return fmt.Errorf("--%s %q is neither true nor false", flag.Name, value)
	case errors.As(err, &number) && errors.Is(number.Err, strconv.ErrRange):
		return fmt.Errorf("--%s %q is out of range", flag.Name, value)
	case errors.As(err, &number):
		return fmt.Errorf("--%s %q is no number", flag.Name, value)
	}
	return fmt.Errorf("--%s: %w", flag.Name, errors.Unwrap(invalid))
}

func isDuration(text string) bool {
	_, err := time.ParseDuration(text)
	return err == nil
}

// DurationFlag adds a flag whose value is least or longer.
func DurationFlag(flags *pflag.FlagSet, p *time.Duration, name string, otherwise, least time.Duration, usage string) {
	*p = otherwise
	flags.Var(&duration{p, least}, name, usage)
}

// duration is the value of a DurationFlag.
type duration struct {
	value *time.Duration
	least time.Duration
}

// String is 0 for none, which help texts leave out.
func (d *duration) String() string {
	if d.value == nil || *d.value == 0 {
		return "0"
	}
	return d.value.String()
}

// Type is the word for the value in help texts.
func (d *duration) Type() string { return "duration" }

// Set reads a duration.
func (d *duration) Set(text string) error {
	value, err := time.ParseDuration(strings.TrimSpace(text))
	if err == nil && value < d.least {
		err = fmt.Errorf("%s is too short; use %s or more", value, d.least)
	}
	if err == nil {
		*d.value = value
	}
	return err
}
