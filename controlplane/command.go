package main

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/controlplane/internal/start"
	"github.com/wattlenet/wattle/internal/program"
)

// newCommand builds the command line.
func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "wattle-server",
		Short: "The control plane of a Wattle network",
		Long:  "wattle-server is the control plane of a Wattle network: management API, agent protocol and relay in one program.",
		Args:  program.UnknownCommand,
		RunE: func(command *cobra.Command, _ []string) error {
			_ = command.Help() // writes to stdout, whose failure cobra does not tell either
			return program.Usage("a command is missing")
		},
	}
	root.AddCommand(newUp(), newServe(), newSetup(), newVersion())
	return root
}

func newUp() *cobra.Command {
	return newStart("up", "Set up on the first start, then serve",
		"Makes the data folder, the keys, the owner and the credentials profile if they are not there yet, prints what to do next, and serves.",
		start.Up)
}

func newServe() *cobra.Command {
	return newStart("serve", "Serve only, for containers and units",
		"Serves. An installation without an owner waits for POST /api/setup; wattle-server setup makes one without a browser.",
		start.Serve)
}

func newSetup() *cobra.Command {
	return newStart("setup", "Set up and stop",
		"Does what up does on the first start and ends without serving.",
		start.Setup)
}

// newStart makes a command that starts an installation.
func newStart(use, short, long string, run start.Command) *cobra.Command {
	var config start.Config
	var log program.Log
	command := &cobra.Command{
		Use: use, Short: short, Long: long, Args: program.Arguments,
		RunE: func(command *cobra.Command, _ []string) error {
			logger, err := log.Logger(command.ErrOrStderr())
			if err != nil {
				return err
			}
			config.Logger = logger
			return run(command.Context(), config, command.OutOrStdout())
		},
	}
	config.Flags(command.Flags())
	if use != "serve" {
		config.OwnerFlags(command.Flags())
	}
	log.Flags(command.Flags())
	return command
}

func newVersion() *cobra.Command {
	var asJSON bool
	command := &cobra.Command{
		Use: "version", Short: "Print the version", Args: program.Arguments,
		RunE: func(command *cobra.Command, _ []string) error {
			if asJSON {
				return json.NewEncoder(command.OutOrStdout()).Encode(map[string]string{
					"schema": "wattle.version/v1", "version": program.Version(), "go": runtime.Version(),
				})
			}
			_, err := fmt.Fprintf(command.OutOrStdout(), "wattle-server %s\n", program.Version())
			return err
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return command
}
