#!/usr/bin/env node
import { runCommand } from './command.js'

process.exitCode = runCommand(process.argv.slice(2), { print: console.log, complain: console.error })
