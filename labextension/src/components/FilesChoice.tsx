import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { IWorkspaceEstimate } from '../api';
import { bytesText, estimateText } from '../filewords';
import { h } from '../jsx';
import { asProblem } from '../request';
import { withPoint } from '../words';

/** What would go along, and what the person chose for that folder the last time. */
export interface IFilesAlong {
  estimate(): Promise<IWorkspaceEstimate>;
  chosenBefore(folder: string): Promise<boolean | undefined>;
}

export interface IFilesChoiceProps {
  along: IFilesAlong;
  /** What is chosen now. Undefined leaves it to the server: the person said nothing, and nothing is known yet. */
  onChoose: (sync: boolean | undefined, estimate: IWorkspaceEstimate | null) => void;
  trans: TranslationBundle;
}

/** Whether the notebook's folder goes along. How much that is comes when it is known, and is not waited for. */
export function FilesChoice(props: IFilesChoiceProps): React.ReactElement {
  const { along, onChoose, trans } = props;
  const [estimate, setEstimate] = React.useState<IWorkspaceEstimate | null>(null);
  const [problem, setProblem] = React.useState('');
  const [before, setBefore] = React.useState<boolean | undefined>(undefined);
  /** What the person has said in this dialog. */
  const [said, setSaid] = React.useState<boolean | undefined>(undefined);
  const id = React.useId();

  React.useEffect(() => {
    let wanted = true;
    const look = async (): Promise<void> => {
      const found = await along.estimate();
      const earlier = await along.chosenBefore(found.folder).catch(() => undefined);
      if (wanted) {
        setBefore(earlier);
        setEstimate(found);
      }
    };
    look().catch(reason => wanted && setProblem(asProblem(reason).message));
    return () => {
      wanted = false;
    };
  }, []);

  const isRefused = estimate?.allowed === false;
  const isChecked = !isRefused && (said ?? (estimate?.needs_yes ? false : (before ?? true)));
  // At once, so that what is seen is what is sent.
  React.useLayoutEffect(() => {
    onChoose(estimate || said !== undefined ? isChecked : undefined, estimate);
  }, [isChecked, estimate, said]);

  return (
    <div className="jp-Dsvm-filesChoice">
      <label className="jp-Dsvm-check">
        <input
          type="checkbox"
          checked={isChecked}
          disabled={isRefused}
          aria-describedby={id}
          onChange={event => setSaid(event.target.checked)}
        />
        <span>{label(estimate, trans)}</span>
      </label>
      <div id={id} role="status" aria-live="polite">
        {!estimate && !problem && (
          <p className="jp-Dsvm-quiet" aria-busy="true">
            {trans.__('Looking how much is in it…')}
          </p>
        )}
        {problem && (
          <p>{trans.__('How much is in it could not be found out: %1', withPoint(problem))}</p>
        )}
        {estimate && isRefused && <p>{withPoint(estimate.reason)}</p>}
        {estimate?.needs_yes && !isRefused && (
          <p>{trans.__('%1 is much; tick to copy it.', bytesText(estimate.bytes, trans))}</p>
        )}
        {estimate && !isChecked && !isRefused && !estimate.needs_yes && (
          <p className="jp-Dsvm-quiet">
            {trans.__('What is beside the notebook cannot be read there then.')}
          </p>
        )}
      </div>
    </div>
  );
}

function label(estimate: IWorkspaceEstimate | null, trans: TranslationBundle): string {
  if (!estimate?.allowed) {
    return trans.__('Copy the notebook’s folder');
  }
  return estimate.files === 0
    ? trans.__('Copy the notebook’s folder (it is there already)')
    : trans.__('Copy the notebook’s folder (%1)', estimateText(estimate, trans));
}
