import * as fs from 'fs';
import * as path from 'path';

import { GETS_NO_GPU, quotaOf, quotaPage, Refusal, refusalOf } from '../refusals';

const FOLDER = path.join(__dirname, '../../../jupyter_dsvm/compute/azure');
const QUOTA =
  'Operation could not be completed as it results in exceeding approved Cores quota. Current Limit: 8, Current Usage: 6, Additional Required: 4.';

describe('refusals of Azure', () => {
  it.each<[string, string, string, Refusal | null]>([
    ['AllocationFailed', 'No capacity.', '', 'noCapacity'],
    ['ZonalAllocationFailed', 'No capacity.', '', 'noCapacity'],
    ['OverconstrainedAllocationRequest', 'No capacity.', '', 'noCapacity'],
    ['SkuNotAvailable', 'Not available.', '', 'noCapacity'],
    ['OperationNotAllowed', QUOTA, '', 'overQuota'],
    ['QuotaExceeded', QUOTA, '', 'overQuota'],
    ['OperationNotAllowed', 'The VM has to run for this.', '', null],
    ['OperationNotAllowed', QUOTA, `This is a free trial, which ${GETS_NO_GPU}.`, 'freeAccount'],
    ['SkuNotAvailable', 'No.', `This is a free trial, which ${GETS_NO_GPU}.`, 'freeAccount'],
    ['ScopeLocked', 'A lock.', '', null]
  ])('%s (%s %s) is %s', (code, message, advice, refusal) => {
    expect(refusalOf({ code, message, advice })).toBe(refusal);
  });

  it('are none where there is no problem', () => {
    expect(refusalOf(null)).toBeNull();
  });

  it('tell numbers and page as far as they are there', () => {
    expect(quotaOf({ code: '', message: QUOTA, advice: '' })).toEqual({ limit: 8, needed: 10 });
    expect(quotaOf({ code: '', message: 'It is used up.', advice: '' })).toBeNull();
    const advice = 'Request more at https://portal.azure.com/#quota.';
    expect(quotaPage({ code: '', message: '', advice })).toBe('https://portal.azure.com/#quota');
    expect(quotaPage({ code: '', message: '', advice: 'See https://evil.example.' })).toBeNull();
  });

  it('have the words of the server', () => {
    const text = fs.readFileSync(path.join(FOLDER, 'refusals.py'), 'utf-8');
    expect(text).toContain(`which ${GETS_NO_GPU};`);
  });
});
