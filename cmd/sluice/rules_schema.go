package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/sluice-risk/sluice/rules"
	"github.com/spf13/cobra"
)

func rulesSchemaCommand() *cobra.Command {
	var dir string
	kinds := rules.SchemaKinds()
	cmd := &cobra.Command{
		Use:   "schema [KIND]",
		Short: "Print the JSON Schema of a kind of file, for editors",
		Long: `Print the JSON Schema (draft 2020-12) of a kind of file, by which editors complete keys and words, show what they mean and
mark mistakes of form. Kinds: ` + strings.Join(kinds, ", ") + `. Without a kind, they are listed.
With --out, the schema of the kind, or all of them, are written to files in a folder.`,
		Example: "  sluice rules schema rules > rules.json\n" +
			"  sluice rules schema --out deploy/schemas",
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: kinds,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case dir != "" && len(args) == 0:
				return writeSchemas(dir, kinds)
			case dir != "":
				return writeSchemas(dir, args)
			}
			return printSchema(args, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&dir, "out", "", "folder for files KIND.json")
	return cmd
}

// printSchema prints the schema of a kind, or the kinds that there are.
func printSchema(args []string, out io.Writer) error {
	if len(args) == 0 {
		fmt.Fprintln(out, strings.Join(rules.SchemaKinds(), "\n"))
		return nil
	}
	text, _ := rules.Schema(args[0])
	_, err := out.Write(text)
	return err
}

// writeSchemas writes schemas into a folder, which it makes.
func writeSchemas(dir string, kinds []string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, kind := range kinds {
		text, _ := rules.Schema(kind)
		if err := os.WriteFile(filepath.Join(dir, kind+".json"), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
