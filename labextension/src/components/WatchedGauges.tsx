import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { gaugesOf } from '../gauges';
import { h } from '../jsx';
import { IMetricsModel } from '../tokens';
import { Gauges } from './Gauge';

/** How much of a compute is in use, asked for as long as this is on screen. */
export function WatchedGauges(props: {
  metrics: IMetricsModel;
  compute: string;
  trans: TranslationBundle;
}): React.ReactElement {
  const { metrics, compute, trans } = props;
  const [, update] = React.useReducer((count: number) => count + 1, 0);
  React.useEffect(() => {
    const watch = metrics.watch(compute);
    const onChange = (_: unknown, changed: string) => {
      if (changed === compute) {
        update();
      }
    };
    metrics.changed.connect(onChange);
    update();
    return () => {
      metrics.changed.disconnect(onChange);
      watch.dispose();
    };
  }, [metrics, compute]);
  return <Gauges gauges={gaugesOf(metrics.metrics(compute), trans)} trans={trans} />;
}
