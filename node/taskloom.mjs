#!/usr/bin/env node
// The command `taskloom`. Nothing else of the package is loaded.
import { command } from './dist/command.js';

process.exitCode = command(process.argv.slice(2));
