package main

import (
	"log/slog"

	"github.com/urfave/cli/v2"
)

func logFlag() cli.Flag {
	return &cli.StringFlag{Name: "log-level", Value: "info", EnvVars: []string{"LIFEBOAT_LOG_LEVEL"}, Usage: "`LEVEL` of the log on standard error: debug, info, warn, error"}
}

func newLogger(c *cli.Context) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.String("log-level"))); err != nil {
		return nil, usagef("--log-level: %w", err)
	}
	return slog.New(slog.NewTextHandler(c.App.ErrWriter, &slog.HandlerOptions{Level: level})), nil
}
