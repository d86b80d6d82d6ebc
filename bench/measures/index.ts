// Every measure that is taken on each peer, in the order of the report.
import { bulk } from './bulk.ts';
import { idle } from './idle.ts';
import { loadedTrips, pacedTrips, trips } from './trips.ts';
import { tunnels } from './tunnels.ts';
import type { Measure } from './types.ts';

export const measures: readonly Measure[] = [tunnels, bulk, trips, loadedTrips, pacedTrips, idle];
