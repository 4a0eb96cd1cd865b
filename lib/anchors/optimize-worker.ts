// Thread of the anchor search: one run in, its minimum out.
import { parentPort, workerData } from 'node:worker_threads'
import { type RunInput, searchRun } from './optimize.js'

parentPort!.postMessage(searchRun(workerData as RunInput))
