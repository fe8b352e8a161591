import { OutputAreaModel, SimplifiedOutputArea } from '@jupyterlab/outputarea';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { TranslationBundle } from '@jupyterlab/translation';
import { Widget } from '@lumino/widgets';
import * as React from 'react';

import { ICellRun } from '../api';
import { h } from '../jsx';

export interface IStrayProps {
  run: ICellRun;
  /** The source of its cell now; null where that is not there. */
  source: string | null;
  rendermime: IRenderMimeRegistry;
  onInsert: () => void;
  onDismiss: () => void;
  trans: TranslationBundle;
}

/** Outputs that found no cell: the source that they are of, themselves where they are wanted, and what can be done with them. */
export function Stray(props: IStrayProps): React.ReactElement {
  const { run, trans } = props;
  const [isShown, setShown] = React.useState(false);
  const about = `stray-${run.msg_id}`;
  return (
    <li>
      <p id={about}>
        {run.execution_count !== null && <b>{`[${run.execution_count}] `}</b>}
        {reason(props)}
      </p>
      <pre tabIndex={0} aria-label={trans.__('The source that was run')}>
        {run.source ?? trans.__('(too long to be kept)')}
      </pre>
      {isShown && <Outputs {...props} />}
      <div>
        <button
          className="jp-mod-styled"
          aria-expanded={isShown}
          aria-describedby={about}
          onClick={() => setShown(!isShown)}
        >
          {isShown ? trans.__('Hide') : trans.__('Show')}
        </button>
        <button className="jp-mod-styled" aria-describedby={about} onClick={props.onInsert}>
          {trans.__('Insert below')}
        </button>
        <button className="jp-mod-styled" aria-describedby={about} onClick={props.onDismiss}>
          {trans.__('Dismiss')}
        </button>
      </div>
    </li>
  );
}

function reason({ run, source, trans }: IStrayProps): string {
  if (source === null) {
    return trans.__('Its cell is not in this notebook.');
  }
  return source === run.source
    ? trans.__('Its cell was saved without it after it had ended.')
    : trans.__('Its cell has another text now.');
}

/** As JupyterLab shows outputs. */
function Outputs({ run, rendermime }: IStrayProps): React.ReactElement {
  const at = React.useRef<HTMLDivElement>(null);
  React.useEffect(() => {
    const model = new OutputAreaModel({ values: run.outputs, trusted: true });
    const area = new SimplifiedOutputArea({ model, rendermime });
    Widget.attach(area, at.current!);
    return () => {
      area.dispose();
      model.dispose();
    };
  }, [run.outputs]);
  return <div className="jp-Dsvm-strayOutputs" tabIndex={0} ref={at} />;
}
