// Every measure, in the order of the report: those that are taken on each peer, and those of Sallyport alone.
import { bulk } from './bulk.ts';
import { idle } from './idle.ts';
import { reload } from './reload.ts';
import { loadedTrips, pacedTrips, trips } from './trips.ts';
import { tunnels } from './tunnels.ts';
import type { Measure, OwnMeasure } from './types.ts';
import { verdict } from './verdict.ts';

export const measures: readonly Measure[] = [tunnels, bulk, trips, loadedTrips, pacedTrips, idle];
export const ownMeasures: readonly OwnMeasure[] = [verdict, reload];
