package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"slices"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/sluice-risk/sluice/pipeline"
	"github.com/spf13/cobra"
)

func resubmitCommand() *cobra.Command {
	var in cluster
	var which choice
	var by, format string
	var all, dry, yes, force bool
	cmd := &cobra.Command{
		Use:   "resubmit (P/O... | --reason R | --id TX | --all)",
		Short: "Write chosen dead letters to the topics that they came from once more",
		Long: `Write chosen dead letters to the topics that they came from once more, byte for byte, with their key,
to the partition where they stood, after what was wrong has been put right: in the policy, the lists,
a clock, the schema, the configuration or the code. Nothing in them can be changed here.

Each is re-submitted once: that it was is noted in the topic of dead letters, and another run, also one
at the same time, passes it over. A letter whose record was cut cannot be re-submitted; one that would be
refused again is not, unless --force is given. Exit status 1 says that some of those chosen were not.`,
		Example: "  sluice dead-letters resubmit --reason future_time --since 2h --dry-run\n" +
			"  sluice dead-letters resubmit --reason future_time --since 2h --yes\n" +
			"  sluice dead-letters resubmit 3/17 5/2 --config sluice.yaml",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := checkFormat(format); err != nil {
				return err
			}
			if which.places, err = placesOf(args); err != nil {
				return err
			}
			if chosen := len(args) > 0 || len(which.reasons) > 0 || which.id != ""; chosen == all {
				return errors.New("choose letters by P/O, --reason or --id; or say --all")
			}
			config, conn, err := in.open(cmd)
			if err != nil {
				return err
			}
			defer conn.Close()
			ctx := cmd.Context()
			letters, err := readLetters(ctx, conn, config.Topics.DeadLetters)
			if err != nil {
				return err
			}
			chosen, err := which.among(letters)
			if err != nil {
				return err
			}
			s := &pipeline.Resubmission{Conn: conn, Topics: &config.Topics, Letters: letters, By: by, Force: force}
			fates, err := s.Check(ctx, chosen)
			if err != nil {
				return err
			}
			if n := countFates(fates)[pipeline.Resubmittable]; n > 0 && !dry {
				if !yes && !isatty.IsTerminal(os.Stdin.Fd()) {
					return fmt.Errorf("%d records would be re-submitted: say --yes to do it, or --dry-run to see them", n)
				}
				if !yes && !confirmed(os.Stdin, os.Stderr, n) {
					return errors.New("nothing was re-submitted")
				}
				bar := newCount(len(chosen), "re-submitting", "letters")
				s.Progress = func(done, _ int) { bar.set(int64(done)) }
				fates, err = s.Run(ctx, chosen)
				bar.end()
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			if err = errors.Join(err, printFates(out, fates, format), out.Flush()); err != nil {
				return err
			}
			if countFates(fates)[pipeline.Refused] > 0 {
				return errBad
			}
			return nil
		},
	}
	in.flags(cmd)
	which.flags(cmd)
	f := cmd.Flags()
	f.BoolVar(&all, "all", false, "all that --since and --topic leave")
	f.BoolVar(&dry, "dry-run", false, "say what would be done, and do nothing")
	f.BoolVar(&yes, "yes", false, "do not ask")
	f.BoolVar(&force, "force", false, "also letters that would be refused again")
	f.StringVar(&by, "by", whoami(), "who does it, for those who look later")
	f.StringVar(&format, "format", "text", "text or json (a line for each letter)")
	return cmd
}

// whoami is the user and the machine, as far as they are known.
func whoami() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// confirmed asks a person.
func confirmed(in io.Reader, out io.Writer, n int) bool {
	fmt.Fprintf(out, "Re-submit %d records? [y/N] ", n)
	answer, _ := bufio.NewReader(in).ReadString('\n') // an end without an answer is a no
	return slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(answer)))
}

func countFates(fates []pipeline.Fate) map[pipeline.FateResult]int {
	n := map[pipeline.FateResult]int{}
	for _, f := range fates {
		n[f.Result]++
	}
	return n
}

// printFates prints how many letters had which fate, and why those that were refused were.
func printFates(out io.Writer, fates []pipeline.Fate, format string) error {
	if format == "json" {
		lines := json.NewEncoder(out)
		for _, f := range fates {
			if err := lines.Encode(struct {
				letterLine
				Result pipeline.FateResult `json:"result"`
				Why    string              `json:"why,omitempty"`
			}{lineOf(f.Letter), f.Result, f.Why}); err != nil {
				return err
			}
		}
		return nil
	}
	n := countFates(fates)
	if len(fates) == 0 {
		fmt.Fprintln(out, "no dead letter was chosen")
	}
	for _, line := range []struct {
		result pipeline.FateResult
		says   string
	}{
		{pipeline.Resubmittable, "%d can be re-submitted\n"},
		{pipeline.Resubmitted, "%d re-submitted\n"},
		{pipeline.Already, "%d had been re-submitted before\n"},
		{pipeline.Refused, "%d not re-submitted:\n"},
	} {
		if n[line.result] > 0 {
			fmt.Fprintf(out, line.says, n[line.result])
		}
	}
	for _, f := range fates {
		if f.Result == pipeline.Refused {
			fmt.Fprintf(out, "  %s %s: %s\n", f.Letter.At, shown(string(f.Letter.Reason)), f.Why)
		}
	}
	return nil
}
